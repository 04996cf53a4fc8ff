/**
 * Which databases this process has open. Closing any descriptor on such a file drops the locks SQLite holds on it in
 * this process (fcntl(2)), so nothing else here may open it: a commit of another process could then be lost.
 */

import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';

const opened = new Map<string, DatabaseSync[]>();

/** To be called with every connection that is opened for writing. */
export function rememberOpen(path: string, database: DatabaseSync): void {
  for (const [key, databases] of opened) {
    if (!databases.some((one) => one.isOpen)) opened.delete(key);
  }
  const key = inodeOf(path);
  if (key !== undefined) opened.set(key, [...(opened.get(key) ?? []), database]);
}

/** Whether a connection of this process is open on the file, under whatever name. */
export function isOpenHere(path: string): boolean {
  const key = inodeOf(path);
  return key !== undefined && (opened.get(key) ?? []).some((database) => database.isOpen);
}

/** stat(2) opens nothing. */
function inodeOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}
