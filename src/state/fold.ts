/** Making one plain file of a database and its write-ahead log. */

import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { openElsewhere } from './open-elsewhere.ts';
import { restoreError, sqliteCode } from './restore-error.ts';
import { type FileIdentity, identityOf, lookAtTarget } from './target-files.ts';

const BUSY_CODES: ReadonlySet<number> = new Set([5 /* BUSY */, 6 /* LOCKED */, 15 /* PROTOCOL */]);
/** ERROR: what SQLite says of a file format it does not know, and of a database without the tables it should have. */
const DAMAGE_CODES: ReadonlySet<number> = new Set([
  1 /* ERROR */, 11 /* CORRUPT */, 24 /* FORMAT */, 26 /* NOTADB */,
]);
/** For a reader that is about to be done. */
const BUSY_TIMEOUT_MS = 250;

/** Whether SQLite says that a file is no database, or a broken one; also of an error that was put into our words. */
export function isDamage(error: unknown): boolean {
  const code = sqliteCode(error) ?? sqliteCode((error as { cause?: unknown } | null)?.cause);
  return code !== undefined && DAMAGE_CODES.has(code);
}

/**
 * Brings every commit into the database file itself and leaves it without companions, in rollback mode. It is the same
 * state afterwards; opened as a store, it is in WAL mode again. Not `durably`: for a copy that nobody will miss.
 * @throws {BangerError} `in_use`: another program has it open; not one byte was changed then; `io_error`, `no_space`
 */
export function foldDatabase(path: string, durably: boolean): void {
  const synchronous = `PRAGMA synchronous = ${durably ? 'FULL' : 'OFF'}`;
  // Exclusive before anything that reads: SQLite then asks for the lock that no other connection may share, so that a
  // checkpoint is not even begun under a reader.
  withDatabase(path, `PRAGMA locking_mode = EXCLUSIVE; ${synchronous}`, (database) => {
    const [row] = runToEnd(database, 'PRAGMA wal_checkpoint(TRUNCATE)');
    if (Number(row?.['busy'] ?? 0) !== 0) throw openElsewhere(path);
  });
  // Not exclusive: such a connection would end its rollback journal by blanking it, and a kill would leave that behind.
  withDatabase(path, synchronous, (database) => {
    const [row] = runToEnd(database, 'PRAGMA journal_mode = DELETE');
    if (row?.['journal_mode'] !== 'delete') throw openElsewhere(path);
  });
}

function withDatabase(path: string, settings: string, work: (database: DatabaseSync) => void): void {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: false });
    database.enableDefensive(true);
    database.exec(`PRAGMA trusted_schema = OFF; ${settings};`);
    work(database);
  } catch (error) {
    const code = sqliteCode(error);
    throw code !== undefined && BUSY_CODES.has(code) ? openElsewhere(path, error) : restoreError(path, error);
  } finally {
    database?.close();
  }
}

/** get() would stop at the first row, before the statement's commit and its failure. */
function runToEnd(database: DatabaseSync, sql: string): readonly Readonly<Record<string, unknown>>[] {
  return database.prepare(sql).all();
}

/**
 * Folds the database that is to be replaced. A write-ahead index that a killed program left is removed: it says nothing
 * about a database without a log.
 * @returns the folded file as it lies there now
 */
export async function foldInPlace(path: string): Promise<FileIdentity> {
  foldDatabase(path, true);
  await removeDeadSidecars(path, true);
  const [left] = lookAtTarget(path).sidecars.keys();
  if (left !== undefined) {
    throw new BangerError('io_error', `${path} could not be made one file: ${path}${left} is still there`);
  }
  const folded = identityOf(path);
  if (folded === undefined) throw new BangerError('in_use', `${path} vanished while it was being replaced`);
  return folded;
}

/**
 * Removes companions that SQLite takes for none: without a byte; a journal that was not begun, or is ended, whose first
 * byte is zero (https://sqlite.org/fileformat2.html, section 3); after a fold, the index of a log that is gone. Nobody may
 * have the database open.
 */
export async function removeDeadSidecars(path: string, shmToo: boolean): Promise<void> {
  for (const [suffix, { size }] of lookAtTarget(path).sidecars) {
    try {
      const dead =
        size === 0n ||
        (shmToo && suffix === '-shm') ||
        (suffix === '-journal' && (await firstByte(path + suffix)) === 0);
      if (dead) await rm(path + suffix);
    } catch (error) {
      throw fileError(`cannot remove ${path}${suffix}`, error);
    }
  }
}

async function firstByte(path: string): Promise<number | undefined> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, 0);
  return bytesRead === 0 ? undefined : buffer[0];
}
