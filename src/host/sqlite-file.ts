/** Making a SQLite file private before SQLite opens it. */

import { closeSync, lstatSync, openSync } from 'node:fs';
import { BangerError } from '../core/errors.ts';
import { fileError } from './files.ts';

/**
 * Makes an empty file with mode 0600, or checks that what is there is a regular file of ours that nobody else can
 * open. SQLite gives -wal and -shm the mode of the database. An existing file is never opened here: closing any
 * descriptor on it would drop the locks that SQLite holds on it in this process (fcntl(2)).
 * @returns whether the file is new
 */
export function preparePrivateFile(path: string): boolean {
  try {
    closeSync(openSync(path, 'wx', 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw fileError(`cannot make ${path}`, error);
  }
  const stat = lstatSync(path);
  if (!stat.isFile())
    throw new BangerError('permission', `refusing to use ${path}: it is not a regular file`);
  if (stat.uid !== process.geteuid?.()) {
    throw new BangerError('permission', `refusing to use ${path}: it belongs to uid ${stat.uid}`);
  }
  if ((stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0');
    throw new BangerError('permission', `refusing to use ${path}: it is open to other users (mode ${mode})`, {
      hint: `chmod 600 ${path}`,
    });
  }
  return false;
}
