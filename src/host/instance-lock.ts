/**
 * One daemon per state directory. Node has no flock(2), so the lock is an EXCLUSIVE transaction on a SQLite file of
 * its own: the kernel frees it when the process dies, however it dies.
 */

import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BangerError, errorText } from '../core/errors.ts';
import { now } from './clock.ts';
import { readJsonFile, sweepTemporaries, writeFileAtomic } from './files.ts';
import { rememberOpen } from './open-here.ts';
import { preparePrivateFile } from './sqlite-file.ts';

export interface InstanceLock {
  /** Idempotent. */
  release(): void;
  [Symbol.dispose](): void;
}

/** What a holder leaves beside the lock for people to read; it decides nothing. */
export interface LockHolder {
  readonly pid: number;
  /** Where it answers: another environment may look for it elsewhere. */
  readonly socketPath?: string;
}

const SQLITE_BUSY = 5;
/** Nothing is ever written: without the pragma, SQLite begins a journal file, for which a full disk has no room. */
export const TAKE_LOCK = 'PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE';

/**
 * Takes the lock, without waiting. `holder` is written to `<path>.holder` for the loser's message.
 * @throws {BangerError} `in_use` naming the holder where it is known; `permission`, `io_error`
 */
export async function acquireInstanceLock(path: string, holder: LockHolder): Promise<InstanceLock> {
  preparePrivateFile(path);
  const holderFile = `${path}.holder`;
  const database = lockedDatabase(path);
  if (database === undefined) throw await inUse(path, holderFile);
  try {
    await sweepTemporaries(dirname(path));
    await writeFileAtomic(holderFile, `${JSON.stringify({ ...holder, since: now() })}\n`, { durable: false });
  } catch (error) {
    database.close();
    throw error;
  }
  const release = (): void => {
    if (!database.isOpen) return;
    try {
      rmSync(holderFile, { force: true });
    } catch {
      // It decides nothing; a lock that outlives its holder would.
    }
    database.close();
  };
  return { release, [Symbol.dispose]: release };
}

/** Undefined when another connection, of this process or another, holds it. */
function lockedDatabase(path: string): DatabaseSync | undefined {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    database.exec(TAKE_LOCK);
    rememberOpen(path, database);
    return database;
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return undefined;
    throw new BangerError('io_error', `cannot lock ${path}: ${errorText(error)}`, { cause: error });
  }
}

async function inUse(path: string, holderFile: string): Promise<BangerError> {
  const holder = await readHolder(holderFile);
  const who = holder?.pid === undefined ? '' : ` (pid ${holder.pid})`;
  const where = holder?.socketPath === undefined ? '' : ` and answers on ${holder.socketPath}`;
  return new BangerError('in_use', `another bangerd${who} works on ${dirname(path)}${where}`, {
    hint: 'banger daemon stop ends it; its VMs keep running',
  });
}

async function readHolder(file: string): Promise<Partial<LockHolder> | undefined> {
  const value = await readJsonFile(file, 64 * 1024).catch(() => undefined);
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, socketPath } = value as Record<string, unknown>;
  return {
    ...(Number.isSafeInteger(pid) ? { pid: pid as number } : {}),
    ...(typeof socketPath === 'string' ? { socketPath } : {}),
  };
}
