/** What SQLite and the file system throw during a restore, in our words. */

import { accessSync, constants } from 'node:fs';
import { BangerError, errorText } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { storeError } from '../store/errors.ts';

/** Primary result codes of SQLite, the low byte of all others: https://www.sqlite.org/rescode.html */
export function sqliteCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code & 0xff : undefined;
}

/** SQLite says the same of a file it may not open and of a disk that does not answer. */
const UNCLEAR_CODES: ReadonlySet<number> = new Set([8 /* READONLY */, 14 /* CANTOPEN */]);

/** An error about the file at `path`; programmer errors pass unchanged. */
export function restoreError(path: string, error: unknown): unknown {
  if (error instanceof BangerError) return error;
  const sqlite = sqliteCode(error);
  if (sqlite !== undefined && UNCLEAR_CODES.has(sqlite) && isWritable(path)) {
    return new BangerError('io_error', `cannot open ${path}: ${errorText(error)}`, { cause: error });
  }
  if (sqlite !== undefined) return storeError(path, error);
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && syscall !== undefined ? fileError(`cannot restore ${path}`, error) : error;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS';
  }
}
