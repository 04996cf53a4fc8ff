/** What a database's migration history says beside this program's list. */

import type { DatabaseSync } from 'node:sqlite';
import { VERSION } from '../../core/buildinfo.ts';
import { BangerError } from '../../core/errors.ts';
import { selectAll } from '../sql.ts';
import { columnsOf, type Migration } from './migration.ts';

export interface MigrationStatus {
  readonly status: 'compatible' | 'pending' | 'newer';
  /** The highest migration the database has; 0: none. */
  readonly level: number;
  /** The highest migration this program has. */
  readonly ours: number;
  /** What opening it would apply, in that order. Of a newer database: none, as it is refused. */
  readonly pending: readonly Pick<Migration, 'id' | 'name'>[];
  /** Ids this program does not know, ascending. */
  readonly unknown: readonly number[];
}

/** A history beyond this was not written by a banger; its first rows are enough to refuse it. */
const MAX_HISTORY = 10_000;

/** Changes nothing. */
export function migrationStatus(database: DatabaseSync, migrations: readonly Migration[]): MigrationStatus {
  const applied = appliedIds(database);
  const known = new Set(migrations.map((migration) => migration.id));
  const unknown = [...applied].filter((id) => !known.has(id)).sort((a, b) => a - b);
  const missing = migrations.filter((migration) => !applied.has(migration.id));
  const pending = unknown.length > 0 ? [] : missing.map(({ id, name }) => ({ id, name }));
  return {
    status: unknown.length > 0 ? 'newer' : pending.length > 0 ? 'pending' : 'compatible',
    level: Math.max(0, ...applied),
    ours: Math.max(0, ...known),
    pending,
    unknown,
  };
}

function appliedIds(database: DatabaseSync): ReadonlySet<number> {
  if (columnsOf(database, 'schema_migrations').size === 0) return new Set();
  // As text: what another program put there may be no integer, or one too large for ours.
  const rows = selectAll(
    database,
    `SELECT CAST(id AS TEXT) AS id FROM schema_migrations LIMIT ${MAX_HISTORY}`,
  );
  return new Set(rows.map((row) => Number(row['id'])));
}

/** Both versions, for whatever met a newer database. */
export function newerText(status: MigrationStatus): string {
  return (
    `schema version ${status.level}, with migrations this program does not know (${status.unknown.join(', ')}); ` +
    `banger ${VERSION} knows schema version ${status.ours}`
  );
}

/** @throws {BangerError} `version_mismatch`: the database has migrations this program does not know */
export function assertNotNewer(status: MigrationStatus, path: string): void {
  if (status.status !== 'newer') return;
  throw new BangerError('version_mismatch', `${path} has ${newerText(status)}`, {
    hint: 'use the banger that wrote it, or a newer one',
  });
}
