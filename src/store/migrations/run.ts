/** Brings a database to this program's schema, one transaction per step, and keeps a copy of what it was before. */

import assert from 'node:assert/strict';
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { VERSION } from '../../core/buildinfo.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import { now } from '../../host/clock.ts';
import { temporaryPath } from '../../host/files.ts';
import { selectAll, selectOne, transaction } from '../sql.ts';
import { columnsOf, HISTORY_SQL, type Migration } from './migration.ts';

/** What every query of ours reads or writes. */
const NEEDED_COLUMNS: Readonly<Record<string, string>> = {
  images:
    'id name managed artifact_dir rootfs_path work_seed_path kernel_path initrd_path modules_dir build_size ' +
    'seeded_ssh_public_key_fingerprint created_at updated_at',
  vms:
    'id name image_id guest_ip state created_at updated_at last_touched_at spec_json runtime_json stats_json ' +
    'workspace_json',
};

/**
 * Applies what is pending. On an existing database the state before the first pending migration is kept as
 * `<path>.pre-<id>`.
 * @throws {BangerError} `version_mismatch`: the database has migrations this program does not know; `io_error`: it is
 *   not a database of ours, or a migration failed (what that one did is rolled back)
 */
export function migrate(database: DatabaseSync, path: string, migrations: readonly Migration[]): void {
  assertOrdered(migrations);
  const applied = appliedIds(database);
  assertNotNewer(applied, path, migrations);
  const pending = migrations.filter((migration) => !applied.has(migration.id));
  const first = pending[0];
  if (first !== undefined) {
    if (hasTables(database)) keepCopy(database, path, `${path}.pre-${first.id}`);
    for (const migration of pending) applyOne(database, path, migration);
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

function appliedIds(database: DatabaseSync): ReadonlySet<number> {
  if (columnsOf(database, 'schema_migrations').size === 0) return new Set();
  return new Set(selectAll(database, 'SELECT id FROM schema_migrations').map((row) => Number(row['id'])));
}

function assertNotNewer(applied: ReadonlySet<number>, path: string, migrations: readonly Migration[]): void {
  const known = new Set(migrations.map((migration) => migration.id));
  const unknown = [...applied].filter((id) => !known.has(id)).sort((a, b) => a - b);
  if (unknown.length === 0) return;
  const highest = Math.max(...applied);
  throw new BangerError(
    'version_mismatch',
    `${path} has schema version ${highest}, with migrations this program does not know (${unknown.join(', ')}); ` +
      `banger ${VERSION} knows schema version ${Math.max(...known)}`,
    { hint: 'use the banger that wrote it, or a newer one' },
  );
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

function applyOne(database: DatabaseSync, path: string, migration: Migration): void {
  try {
    transaction(database, () => {
      database.exec(HISTORY_SQL);
      migration.apply(database);
      database
        .prepare('INSERT INTO schema_migrations (id, name, applied_at) VALUES (?, ?, ?)')
        .run(migration.id, migration.name, now());
    });
  } catch (cause) {
    const message = `migration ${migration.id} (${migration.name}) of ${path} failed: ${errorText(cause)}`;
    throw new BangerError('io_error', message, { cause });
  }
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
