/** A full disk, wherever it was met: no bug, and nothing that the log explains better. */

import { BangerError } from '../core/errors.ts';

const FULL_CODES = new Set(['ENOSPC', 'EDQUOT']);
/** SQLITE_FULL: https://sqlite.org/rescode.html */
const SQLITE_FULL = 13;

/** @returns the error a user sees, or undefined for one that says something else */
export function noSpaceError(thrown: unknown, method: string): BangerError | undefined {
  if (!(thrown instanceof Error)) return undefined;
  const { code, errcode, path } = thrown as { code?: unknown; errcode?: unknown; path?: unknown };
  const isFull = (typeof code === 'string' && FULL_CODES.has(code)) || errcode === SQLITE_FULL;
  if (!isFull) return undefined;
  const where = typeof path === 'string' ? `to write ${path}` : 'to write what banger keeps';
  return new BangerError('no_space', `${method}: no space left ${where}`, {
    hint: 'df -h shows what is full, banger system df what of it is banger’s',
    cause: thrown,
  });
}
