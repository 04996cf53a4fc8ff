/** One connection with the settings every connection of ours has. */

import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import { ensurePrivateDir } from '../host/paths.ts';
import { preparePrivateFile } from '../host/sqlite-file.ts';
import { storeError } from './errors.ts';
import { rememberOpen } from '../host/open-here.ts';

/** From 3.7.0 to 3.51.2 a WAL reset could corrupt the database: https://sqlite.org/wal.html, section 11. */
const MIN_SQLITE = [3, 51, 3] as const;
const BUSY_TIMEOUT_MS = 5000;

/** journal_mode is first: it is the one that meets a file which is not a database. */
const PRAGMAS = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA foreign_keys = ON;
  PRAGMA temp_store = MEMORY;
  PRAGMA mmap_size = 0;
  PRAGMA wal_autocheckpoint = 1000;
  PRAGMA journal_size_limit = 67108864;
  PRAGMA trusted_schema = OFF;
  PRAGMA cell_size_check = ON;
`;

/**
 * Opens a database for reading and writing; makes it, and its directory, when missing.
 * @throws {BangerError} `permission` (the directory or the file is open to others, or not ours), `io_error` (damaged),
 *   `unavailable` (locked for 5 s)
 */
export function openDatabase(path: string): DatabaseSync {
  ensurePrivateDir(dirname(path));
  preparePrivateFile(path);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
    assertSqliteVersion(database);
    database.enableDefensive(true);
    database.exec(PRAGMAS);
    rememberOpen(path, database);
    return database;
  } catch (error) {
    database?.close();
    throw storeError(path, error);
  }
}

function assertSqliteVersion(database: DatabaseSync): void {
  const version = String(database.prepare('SELECT sqlite_version() AS version').get()?.['version']);
  if (isAtLeast(version, MIN_SQLITE)) return;
  throw new BangerError(
    'unsupported',
    `SQLite ${version} can corrupt a database; ${MIN_SQLITE.join('.')} is needed`,
    {
      hint: 'run banger on the Node.js it ships with',
    },
  );
}

/** Compares dotted version numbers. */
export function isAtLeast(version: string, minimum: readonly number[]): boolean {
  const parts = version.split('.').map(Number);
  for (const [index, wanted] of minimum.entries()) {
    const part = parts[index] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}
