/** The database that a restore puts into place, from its making to one durable file. */

import { openSync, closeSync, fsyncSync, readSync, fstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { fileError, syncDir } from '../host/files.ts';
import type { Migration } from '../store/migrations/migration.ts';
import { levelOf } from './state-schema.ts';
import { type FileIdentity, identityOf, lookAtTarget } from './target-files.ts';

/** The check follows indexes across the whole file: with SQLite's 2 MiB it would read most pages many times. */
const CHECK_CACHE_KIB = 256 * 1024;

/** A connection to a database nobody else knows of: what is lost of it on the way is made again. */
export function openTemporary(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true });
  database.enableDefensive(true);
  // seal() makes it durable, once. Journal and lock in memory: no companions.
  database.exec(`
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = MEMORY;
    PRAGMA synchronous = OFF;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA cache_size = -${CHECK_CACHE_KIB};
  `);
  return database;
}

export interface NewFacts {
  readonly migrationVersion: number;
  readonly controlVersion: bigint;
  /** Rows per table. */
  readonly tableCounts: Readonly<Record<string, number>>;
}

/** The one table whose rows migrations add. */
const HISTORY = 'schema_migrations';

/**
 * @throws {BangerError} `io_error`: it is damaged, or migrating it lost a row, a reference or a migration
 */
export function checkNewDatabase(
  database: DatabaseSync,
  manifest: SnapshotManifest,
  migrations: readonly Migration[],
): NewFacts {
  const problems = database
    .prepare('PRAGMA integrity_check(10)')
    .all()
    .map((row) => String(row['integrity_check']))
    .filter((text) => text !== 'ok');
  for (const row of database.prepare('PRAGMA foreign_key_check').all()) {
    problems.push(`a row of ${String(row['table'])} points to none of ${String(row['parent'])}`);
  }
  const migrationVersion = levelOf(database, migrations);
  const latest = migrations.at(-1)?.id;
  if (migrationVersion !== latest) problems.push(`it is at migration ${migrationVersion}, not ${latest}`);
  const tableCounts = countRows(database);
  for (const [table, expected] of Object.entries(manifest.table_counts)) {
    const found = tableCounts[table];
    if (table === HISTORY || found === undefined || found === expected) continue;
    problems.push(`${table} has ${found} rows, the snapshot ${expected}`);
  }
  if (problems.length > 0) {
    const text = problems.slice(0, 5).join('; ');
    throw new BangerError('io_error', `the restored database did not pass its check: ${text}`, {
      hint: 'nothing was replaced',
    });
  }
  const version = database.prepare('PRAGMA user_version').get()?.['user_version'];
  return { migrationVersion, controlVersion: BigInt(Number(version)), tableCounts };
}

function countRows(database: DatabaseSync): Readonly<Record<string, number>> {
  const names = database
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name")
    .all()
    .map((row) => String(row['name']));
  const count = (name: string): number =>
    Number(database.prepare(`SELECT count(*) AS rows FROM "${name.replaceAll('"', '""')}"`).get()?.['rows']);
  return Object.fromEntries(names.map((name) => [name, count(name)]));
}

/** File format write and read version: 1, rollback journal; 2, write-ahead log. https://sqlite.org/fileformat2.html */
const VERSION_OFFSET = 18;

/**
 * Makes sure that the closed database is one file that no companion adds to or takes from, and makes it durable.
 * @returns the file as it lies there now
 */
export async function sealNewDatabase(path: string): Promise<FileIdentity> {
  const { sidecars } = lookAtTarget(path);
  if (sidecars.size > 0) throw notOneFile(path, `${[...sidecars.keys()].join(', ')} lies beside it`);
  try {
    const descriptor = openSync(path, 'r');
    try {
      const versions = Buffer.alloc(2);
      readSync(descriptor, versions, 0, 2, VERSION_OFFSET);
      if (versions.toString('hex') !== '0101') throw notOneFile(path, 'it is in WAL mode');
      if ((fstatSync(descriptor).mode & 0o7777) !== 0o600) throw notOneFile(path, 'it is open to others');
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    await syncDir(dirname(path));
  } catch (error) {
    throw fileError(`cannot make ${path} durable`, error);
  }
  const sealed = identityOf(path);
  if (sealed === undefined) throw notOneFile(path, 'it vanished');
  return sealed;
}

function notOneFile(path: string, why: string): BangerError {
  return new BangerError('io_error', `${path} cannot be put into place: ${why}`, {
    hint: 'nothing was replaced',
  });
}
