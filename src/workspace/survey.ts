/** Which of the planned files are there, and how large they are. */

import { accessSync, constants, lstatSync, type Stats } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { type BytePath, bytePath, bytesOf, displayPath, parentOf } from './byte-path.ts';

export interface Survey {
  /** Regular files and symbolic links, in the order given. */
  readonly paths: readonly BytePath[];
  readonly bytes: number;
}

/** Looking at files is quick one by one; other work gets its turn between slices. */
const SLICE = 500;

/**
 * A tracked file that is gone, became something else, or lies behind a symbolic link counts as deleted, as for git.
 * @throws {BangerError} `permission` for a file that cannot be read
 */
export async function surveyFiles(
  topLevel: string,
  paths: readonly BytePath[],
  signal: AbortSignal,
): Promise<Survey> {
  const root = bytePath(topLevel);
  const directories = new Map<BytePath, boolean>([['', true]]);
  const isRealDirectory = (path: BytePath): boolean => {
    const known = directories.get(path);
    if (known !== undefined) return known;
    const real = isRealDirectory(parentOf(path)) && (look(root, path)?.isDirectory() ?? false);
    directories.set(path, real);
    return real;
  };
  const found: BytePath[] = [];
  let bytes = 0;
  for (let at = 0; at < paths.length; at += SLICE) {
    if (signal.aborted) throw new BangerError('cancelled', 'planning the workspace was cancelled');
    for (const path of paths.slice(at, at + SLICE)) {
      const stat = isRealDirectory(parentOf(path)) ? look(root, path) : undefined;
      if (stat === undefined || !(stat.isFile() || stat.isSymbolicLink())) continue;
      if (stat.isFile()) checkReadable(root, path, stat);
      found.push(path);
      bytes += stat.size;
    }
    await nextTurn();
  }
  return { paths: found, bytes };
}

function look(root: BytePath, path: BytePath): Stats | undefined {
  try {
    return lstatSync(bytesOf(`${root}/${path}`), { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw fileError(`cannot look at ${displayPath(path)}`, error);
  }
}

/** Asks the kernel only where the mode does not settle it. */
function checkReadable(root: BytePath, path: BytePath, stat: Stats): void {
  if ((stat.mode & 0o004) !== 0 || (stat.uid === process.getuid?.() && (stat.mode & 0o400) !== 0)) return;
  try {
    accessSync(bytesOf(`${root}/${path}`), constants.R_OK);
  } catch (cause) {
    throw new BangerError('permission', `${displayPath(path)} cannot be read`, {
      cause,
      hint: 'make it readable, or remove it from the repository',
    });
  }
}
