/** The database that a restore would replace: what it is. */

import { constants } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { errorText } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { foldDatabase, isDamage } from './fold.ts';
import { isEmptyTarget, lookAtTarget, type TargetFiles } from './target-files.ts';

export interface DatabaseFacts {
  /** Highest id in schema_migrations; 0 without that table, and where it holds none of ours. */
  readonly migrationVersion: number;
  /** `PRAGMA user_version`. */
  readonly controlVersion: bigint;
  readonly vms: number;
  readonly images: number;
}

export type Previous = { readonly files: TargetFiles } & (
  | { readonly kind: 'none' }
  | { readonly kind: 'readable'; readonly facts: DatabaseFacts }
  /** SQLite cannot make one file of what is there, or there is only a part of a database. */
  | { readonly kind: 'damaged'; readonly problem: string }
);

/**
 * Looks at what is there without changing it: by making a copy in `scratch`, a directory of the caller's, and doing with
 * that what would be done with the original. The caller holds the instance lock.
 * @throws {BangerError} `permission` (odd files), `no_space`, `io_error` (unreadable)
 */
export async function inspectPrevious(dbPath: string, scratch: string): Promise<Previous> {
  const files = lookAtTarget(dbPath);
  if (isEmptyTarget(files)) return { kind: 'none', files };
  // An empty database would have SQLite throw away what a log holds.
  if (files.main === undefined || files.main.size === 0n) {
    const there = [...files.sidecars.keys()].map((suffix) => basename(dbPath) + suffix);
    return { kind: 'damaged', files, problem: `${there.join(' and ')} without a ${basename(dbPath)}` };
  }
  const first = await inspectCopy(dbPath, files, join(scratch, 'previous'));
  // What SQLite makes of a read that failed can look like damage: it has to find the same twice.
  return first.kind === 'damaged' ? await inspectCopy(dbPath, files, join(scratch, 'previous-again')) : first;
}

async function inspectCopy(dbPath: string, files: TargetFiles, dir: string): Promise<Previous> {
  const copy = join(dir, 'state.db');
  try {
    await mkdir(dir, { mode: 0o700 });
    for (const suffix of ['', '-wal', '-journal']) {
      if (suffix !== '' && !files.sidecars.has(suffix)) continue;
      await copyFile(dbPath + suffix, copy + suffix, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    }
  } catch (error) {
    throw fileError(`cannot read ${dbPath}`, error);
  }
  try {
    foldDatabase(copy, false);
    return { kind: 'readable', files, facts: factsOf(copy) };
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { kind: 'damaged', files, problem: errorText((error as Error).cause ?? error) };
  }
}

function factsOf(path: string): DatabaseFacts {
  using database = new DatabaseSync(path, { readOnly: true });
  const number = (sql: string): number => {
    const statement = database.prepare(sql);
    statement.setReadBigInts(true);
    const [value] = Object.values(statement.get() ?? {});
    // Another program's columns of these names hold anything.
    return typeof value === 'bigint' ? Number(value) : 0;
  };
  const tables = new Set(
    database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
      .all()
      .map((row) => String(row['name'])),
  );
  const count = (table: string): number => (tables.has(table) ? number(`SELECT count(*) FROM ${table}`) : 0);
  return {
    migrationVersion: tables.has('schema_migrations') ? number('SELECT max(id) FROM schema_migrations') : 0,
    controlVersion: BigInt(number('PRAGMA user_version')),
    vms: count('vms'),
    images: count('images'),
  };
}
