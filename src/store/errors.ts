/** SQLite's errors in our words. */

import { BangerError, errorText } from '../core/errors.ts';

/** Primary result codes: https://www.sqlite.org/rescode.html. The low byte of an extended code. */
const PRIMARY = {
  busy: 5,
  readonly: 8,
  ioerr: 10,
  corrupt: 11,
  full: 13,
  cantopen: 14,
  notadb: 26,
} as const;

const CONSTRAINT_FOREIGN_KEY = 787;
const CONSTRAINT_PRIMARY_KEY = 1555;
const CONSTRAINT_UNIQUE = 2067;

function errcode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code : undefined;
}

/** Whether a unique constraint or index on that column (`vms.name`) refused the write. */
export function isUniqueViolation(error: unknown, column: string): boolean {
  const code = errcode(error);
  if (code !== CONSTRAINT_UNIQUE && code !== CONSTRAINT_PRIMARY_KEY) return false;
  return errorText(error).endsWith(`: ${column}`);
}

export function isForeignKeyViolation(error: unknown): boolean {
  return errcode(error) === CONSTRAINT_FOREIGN_KEY;
}

/** Anything a store operation threw, as what the user meets; programmer errors pass unchanged. */
export function storeError(path: string, error: unknown): unknown {
  const code = errcode(error);
  if (error instanceof BangerError || code === undefined) return error;
  const detail = errorText(error);
  switch (code & 0xff) {
    case PRIMARY.busy:
      return new BangerError('unavailable', `${path} is locked by another program`, {
        hint: `find it: fuser ${path}`,
        cause: error,
      });
    case PRIMARY.full:
      return new BangerError('no_space', `no space left to write ${path}`, {
        hint: 'df -h shows what is full',
        cause: error,
      });
    case PRIMARY.corrupt:
    case PRIMARY.notadb:
      return new BangerError('io_error', `${path} is damaged: ${detail}`, {
        hint:
          'nothing was changed; banger state list shows the snapshots that banger state bootstrap can restore, and ' +
          'banger state rebuild makes it anew from the VMs and images that are there',
        cause: error,
      });
    case PRIMARY.readonly:
    case PRIMARY.cantopen:
      return new BangerError('permission', `cannot open ${path} for writing: ${detail}`, { cause: error });
    case PRIMARY.ioerr:
      return new BangerError('io_error', `reading or writing ${path} failed: ${detail}`, { cause: error });
    default:
      return new BangerError('internal', `${path}: ${detail}`, { cause: error });
  }
}
