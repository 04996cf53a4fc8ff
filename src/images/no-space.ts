/** Tells a full disk from other failures, in errors of our own and in the words of other programs. */

import { BangerError, errorText } from '../core/errors.ts';

export function isNoSpaceText(text: string): boolean {
  return /no space left on device|enough (free )?space|could not allocate block|ENOSPC|disk quota exceeded/i.test(
    text,
  );
}

/** The error for a full file system at `path`. */
export function asNoSpace(path: string, cause: unknown): BangerError {
  return new BangerError('no_space', `no space left on the disk that holds ${path}`, {
    hint: `free some space there (df -h ${path}), then run the command again`,
    cause,
  });
}

/** Turns errors of the file system into what users can meet; passes everything else on. */
export function translateFsError(error: unknown, path: string): unknown {
  if (error instanceof BangerError && error.code !== 'io_error' && error.code !== 'build_failed')
    return error;
  return isNoSpaceText(errorText(error)) ? asNoSpace(path, error) : error;
}
