/** One writer at a time in a collection of snapshots: the daemon and processes without one may be at work together. */

import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../core/errors.ts';
import { TAKE_LOCK } from '../host/instance-lock.ts';
import { rememberOpen } from '../host/open-here.ts';
import { preparePrivateFile } from '../host/sqlite-file.ts';

const SQLITE_BUSY = 5;
const RETRY_MS = 20;
const MAX_WAIT_MS = 60_000;

/**
 * Runs `work` while no other process, and nothing else in this one, holds the lock. As host/instance-lock.ts: an
 * EXCLUSIVE transaction on a file of its own, which the kernel ends with the process.
 * @throws {BangerError} `in_use` after a minute; `permission`, `io_error`; what `work` throws
 */
export async function withCollectionLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  preparePrivateFile(path);
  const database = openLock(path);
  try {
    const attempts = MAX_WAIT_MS / RETRY_MS;
    for (let attempt = 1; !isLocked(database, path); attempt += 1) {
      if (attempt > attempts) {
        throw new BangerError('in_use', 'another banger has been writing snapshots for a minute', {
          hint: 'try again; banger daemon status shows what the daemon is doing',
        });
      }
      await sleep(RETRY_MS);
    }
    return await work();
  } finally {
    database.close();
  }
}

function openLock(path: string): DatabaseSync {
  try {
    const database = new DatabaseSync(path, { timeout: 0 });
    rememberOpen(path, database);
    return database;
  } catch (error) {
    throw lockError(path, error);
  }
}

function isLocked(database: DatabaseSync, path: string): boolean {
  try {
    database.exec(TAKE_LOCK);
    return true;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return false;
    throw lockError(path, error);
  }
}

function lockError(path: string, cause: unknown): BangerError {
  return new BangerError('io_error', `cannot lock ${path}: ${errorText(cause)}`, { cause });
}
