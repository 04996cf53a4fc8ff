/** Brings a database to this program's schema, one transaction per step, and keeps a copy of what it was before. */

import assert from 'node:assert/strict';
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { BangerError, errorText } from '../../core/errors.ts';
import { now } from '../../host/clock.ts';
import { temporaryPath } from '../../host/files.ts';
import { raiseControlVersion, selectOne, transaction } from '../sql.ts';
import { columnsOf, HISTORY_SQL, type Migration } from './migration.ts';
import { assertNotNewer, migrationStatus } from './status.ts';

/** What every query of ours reads or writes. */
const NEEDED_COLUMNS: Readonly<Record<string, string>> = {
  images:
    'id name managed artifact_dir rootfs_path work_seed_path kernel_path initrd_path modules_dir build_size ' +
    'seeded_ssh_public_key_fingerprint created_at updated_at',
  vms:
    'id name image_id guest_ip state created_at updated_at last_touched_at spec_json runtime_json stats_json ' +
    'workspace_json',
};

export interface MigrateOptions {
  /** Keep what an existing database is before its first pending migration as `<path>.pre-<id>`. Default true. */
  readonly keepCopy?: boolean;
  /**
   * Called once on an existing database with something pending, after that copy is made and before anything is
   * applied. May read, but not write; what it throws stops the migration.
   */
  readonly beforeFirst?: (database: DatabaseSync, firstPendingId: number) => void;
}

/**
 * Applies what is pending, each in a transaction of its own that also raises the control version.
 * @throws {BangerError} `version_mismatch`: the database has migrations this program does not know, and stays as it is;
 *   `io_error`: it is not a database of ours, or a migration failed. What that one did is rolled back; those before it
 *   stay, and the message names them
 */
export function migrate(
  database: DatabaseSync,
  path: string,
  migrations: readonly Migration[],
  options: MigrateOptions = {},
): void {
  assertOrdered(migrations);
  const status = migrationStatus(database, migrations);
  assertNotNewer(status, path);
  const first = status.pending[0];
  if (first !== undefined) {
    const copy = hasTables(database) && options.keepCopy !== false ? `${path}.pre-${first.id}` : undefined;
    if (copy !== undefined) keepCopy(database, path, copy);
    if (hasTables(database)) options.beforeFirst?.(database, first.id);
    const ids = new Set(status.pending.map((migration) => migration.id));
    applyAll(database, { path, copy, pending: migrations.filter((migration) => ids.has(migration.id)) });
  }
  assertColumns(database, path);
}

function assertOrdered(migrations: readonly Migration[]): void {
  for (const [index, migration] of migrations.entries()) {
    const previous = migrations[index - 1];
    assert(
      previous === undefined || previous.id < migration.id,
      `migration ${migration.id} is out of order or twice`,
    );
  }
}

function hasTables(database: DatabaseSync): boolean {
  return selectOne(database, "SELECT 1 FROM sqlite_schema WHERE type = 'table' LIMIT 1") !== undefined;
}

/** A copy that is complete under its name or not there at all. VACUUM INTO cannot run inside a transaction. */
function keepCopy(database: DatabaseSync, path: string, copy: string): void {
  const temporary = temporaryPath(copy);
  try {
    // SQLite accepts an empty file as its target, and so keeps our mode.
    closeSync(openSync(temporary, 'wx', 0o600));
    database.prepare('VACUUM INTO ?').run(temporary);
    syncPath(temporary);
    renameSync(temporary, copy);
    syncPath(dirname(copy));
  } catch (cause) {
    rmSync(temporary, { force: true });
    const message = `cannot keep a copy of ${path} as ${copy} before migrating it: ${errorText(cause)}`;
    throw new BangerError('io_error', message, { cause });
  }
}

/** The copy is another inode than the open database: closing a descriptor on it drops no lock. */
function syncPath(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

interface Run {
  readonly path: string;
  /** Where the database as it was lies, if that was kept. */
  readonly copy: string | undefined;
  readonly pending: readonly Migration[];
}

function applyAll(database: DatabaseSync, { path, copy, pending }: Run): void {
  for (const [index, migration] of pending.entries()) {
    try {
      transaction(database, () => apply(database, migration));
    } catch (cause) {
      const done = pending.slice(0, index).map(({ id }) => id);
      const before =
        done.length === 0 ? 'nothing was changed' : `applied before it and kept: ${done.join(', ')}`;
      const message = `migration ${migration.id} (${migration.name}) of ${path} failed: ${errorText(cause)}; ${before}`;
      const hint = copy === undefined ? {} : { hint: `the database as it was before: ${copy}` };
      throw new BangerError('io_error', message, { cause, ...hint });
    }
  }
}

function apply(database: DatabaseSync, migration: Migration): void {
  database.exec(HISTORY_SQL);
  migration.apply(database);
  database
    .prepare('INSERT INTO schema_migrations (id, name, applied_at) VALUES (?, ?, ?)')
    .run(migration.id, migration.name, now());
  raiseControlVersion(database);
}

function assertColumns(database: DatabaseSync, path: string): void {
  for (const [table, needed] of Object.entries(NEEDED_COLUMNS)) {
    const columns = columnsOf(database, table);
    const missing = needed.split(' ').filter((column) => !columns.has(column));
    if (missing.length === 0) continue;
    throw new BangerError(
      'io_error',
      `${path} is not a banger database: table ${table} lacks ${missing.join(', ')}`,
    );
  }
}
