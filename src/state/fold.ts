/** Making one plain file of a database and its write-ahead log. */

import { rm } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import { storeError } from '../store/errors.ts';
import { fileError } from '../host/files.ts';
import { openElsewhere } from './open-elsewhere.ts';
import { type FileIdentity, identityOf, lookAtTarget } from './target-files.ts';

/** Primary result codes: https://www.sqlite.org/rescode.html */
const BUSY_CODES: ReadonlySet<number> = new Set([5 /* BUSY */, 6 /* LOCKED */, 15 /* PROTOCOL */]);
/** ERROR: what SQLite says of a file format it does not know, and of a database without the tables it should have. */
const DAMAGE_CODES: ReadonlySet<number> = new Set([
  1 /* ERROR */, 11 /* CORRUPT */, 24 /* FORMAT */, 26 /* NOTADB */,
]);
const BUSY_TIMEOUT_MS = 1000;

function resultCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code & 0xff : undefined;
}

/** Whether SQLite says that a file is no database, or a broken one; also of an error that was put into our words. */
export function isDamage(error: unknown): boolean {
  const code = resultCode(error) ?? resultCode((error as { cause?: unknown } | null)?.cause);
  return code !== undefined && DAMAGE_CODES.has(code);
}

/**
 * Brings every commit into the database file itself and leaves it without companions, in rollback mode. It is the same
 * state afterwards; opened as a store, it is in WAL mode again.
 * @throws {BangerError} `in_use`: another program has it open; not one byte was changed then; `io_error`, `no_space`
 */
export function foldDatabase(path: string): void {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: false });
    database.enableDefensive(true);
    // Before the first access: this makes SQLite ask for the lock that no other connection may share, so that a
    // checkpoint is not even begun under a reader.
    database.exec('PRAGMA trusted_schema = OFF; PRAGMA locking_mode = EXCLUSIVE;');
    const busy = Number(database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()?.['busy'] ?? 0);
    if (busy !== 0) throw openElsewhere(path);
    const mode = database.prepare('PRAGMA journal_mode = DELETE').get()?.['journal_mode'];
    if (mode !== 'delete') throw openElsewhere(path);
  } catch (error) {
    const code = resultCode(error);
    throw code !== undefined && BUSY_CODES.has(code) ? openElsewhere(path, error) : storeError(path, error);
  } finally {
    database?.close();
  }
}

/**
 * Folds the database that is to be replaced. A write-ahead index that a killed program left is removed: it says nothing
 * about a database without a log.
 * @returns the folded file as it lies there now
 */
export async function foldInPlace(path: string): Promise<FileIdentity> {
  foldDatabase(path);
  await removeEmptySidecars(path, true);
  const folded = identityOf(path);
  if (folded === undefined) throw new BangerError('in_use', `${path} vanished while it was being replaced`);
  return folded;
}

/** A companion without a byte belongs to nothing, and nor does, after a fold, the index of a log that is gone. */
export async function removeEmptySidecars(path: string, shmToo: boolean): Promise<void> {
  for (const [suffix, { size }] of lookAtTarget(path).sidecars) {
    if (size !== 0n && !(shmToo && suffix === '-shm')) continue;
    try {
      await rm(path + suffix);
    } catch (error) {
      throw fileError(`cannot remove ${path}${suffix}`, error);
    }
  }
}
