/** Everything about a directory that a reader must leave as it was. */

import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * One line for the directory and one for each entry below it: name, inode, mode, owner, size, times of change, and the
 * digest of what is in it. Not for a process that has a database in there open: this one opens files.
 */
export function fingerprint(dir: string): readonly string[] {
  const names = readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort();
  return ['.', ...names].map((name) => {
    const path = join(dir, name);
    const stat = lstatSync(path, { bigint: true });
    const content = stat.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '-';
    const facts = [stat.ino, stat.mode.toString(8), stat.uid, stat.size, stat.mtimeNs, stat.ctimeNs];
    return [name, ...facts, content].join(' ');
  });
}
