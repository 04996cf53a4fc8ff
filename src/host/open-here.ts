/**
 * Which databases this process has open. Closing any descriptor on such a file drops the locks SQLite holds on it in
 * this process (fcntl(2)), so nothing else here may open it: a commit of another process could then be lost, and a
 * lock be taken twice.
 */

import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';

interface Opened {
  readonly path: string;
  /** What was opened, also after the path has come to name something else. */
  readonly inode: string;
  readonly database: DatabaseSync;
}

let opened: readonly Opened[] = [];

/** SQLite keeps the locks of a database in WAL mode on its -shm. */
const COMPANIONS = ['-wal', '-shm', '-journal'] as const;

/** To be called with every connection that is opened for writing or for its lock. */
export function rememberOpen(path: string, database: DatabaseSync): void {
  const inode = inodeOf(path);
  opened = opened.filter((one) => one.database.isOpen);
  if (inode !== undefined) opened = [...opened, { path, inode, database }];
}

/** Whether a connection of this process is open on the file, or on the database it is a companion of, under whatever name. */
export function isOpenHere(path: string): boolean {
  const inode = inodeOf(path);
  if (inode === undefined) return false;
  return opened.some(
    (one) =>
      one.database.isOpen &&
      (one.inode === inode || COMPANIONS.some((suffix) => inodeOf(one.path + suffix) === inode)),
  );
}

/** Why a path cannot be followed, which an open meets, too: it says so, and there is no descriptor to close. */
const UNREACHABLE: ReadonlySet<string | undefined> = new Set(['EACCES', 'ELOOP', 'ENAMETOOLONG']);

/** stat(2) opens nothing. */
function inodeOf(path: string): string | undefined {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
  } catch (error) {
    if (UNREACHABLE.has((error as NodeJS.ErrnoException).code)) return undefined;
    throw error;
  }
}
