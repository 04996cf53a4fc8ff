/** What SQLite and the file system throw during a restore, in our words. */

import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { storeError } from '../store/errors.ts';

/** Programmer errors pass unchanged. */
export function restoreError(dbPath: string, error: unknown): unknown {
  const known = storeError(dbPath, error);
  if (known instanceof BangerError || known !== error) return known;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && syscall !== undefined ? fileError(`cannot restore ${dbPath}`, error) : error;
}
