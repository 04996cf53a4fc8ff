/**
 * Temporaries of ours beside files of users, where no sweep of ours looks: each is noted in our scratch directory as long as it is
 * there, so that what a dead process left is found.
 */

import { mkdir, open, unlink } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import {
  fileError,
  isAbandonedTemporary,
  listDir,
  readJsonFile,
  removeTree,
  temporaryPath,
} from './files.ts';

const NOTE = 'outside';
const MAX_NOTE_BYTES = 64 * 1024;
const REMOVAL_TRIES = 20;
const REMOVAL_WAIT_MS = 50;

/**
 * To be called before the temporary is made, and released when it is gone.
 * @param path absolute, a name of `temporaryPath`
 * @throws {BangerError} `no_space`, `permission`, `io_error`
 */
export async function noteOutside(scratchDir: string, path: string): Promise<AsyncDisposable> {
  const note = temporaryPath(join(scratchDir, NOTE));
  const forget = (): Promise<void> => unlink(note).catch(() => undefined);
  try {
    await mkdir(scratchDir, { recursive: true, mode: 0o700 });
    await using file = await open(note, 'wx', 0o600);
    await file.writeFile(JSON.stringify(path));
  } catch (error) {
    await forget();
    throw fileError(`cannot write to ${scratchDir}`, error);
  }
  return { [Symbol.asyncDispose]: forget };
}

/** Removes what dead processes noted and left. @returns what was there */
export async function sweepOutside(scratchDir: string): Promise<readonly string[]> {
  const swept: string[] = [];
  for (const name of await listDir(scratchDir)) {
    if (!name.startsWith(`.${NOTE}.tmp-`) || !isAbandonedTemporary(name)) continue;
    const note = join(scratchDir, name);
    const path = await readJsonFile(note, MAX_NOTE_BYTES).catch(() => undefined);
    if (isLeft(path)) {
      await removeUnused(path, dirname(path));
      swept.push(path);
    }
    await removeTree(note, { below: scratchDir });
  }
  return swept;
}

/** A note that was not finished names nothing: what it was for had not been begun. */
function isLeft(path: unknown): path is string {
  return typeof path === 'string' && isAbsolute(path) && isAbandonedTemporary(basename(path));
}

/**
 * Removes a directory in which programs that have just lost the process they worked for may be writing still. One that cannot be
 * removed, in whoever's directory it is, is left: it keeps nobody from anything.
 */
export async function removeUnused(path: string, below: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await removeTree(path, { below });
      return;
    } catch {
      if (tries === REMOVAL_TRIES) return;
      await setTimeout(REMOVAL_WAIT_MS);
    }
  }
}
