/**
 * Temporaries of ours beside files of users, where no sweep of ours looks: each is noted in our scratch directory as long as it is
 * there, so that what a dead process left is found.
 */

import { open, unlink } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
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

/**
 * To be called before the temporary is made, and released when it is gone.
 * @param path absolute, a name of `temporaryPath`
 * @throws {BangerError} `no_space`, `permission`, `io_error`
 */
export async function noteOutside(scratchDir: string, path: string): Promise<AsyncDisposable> {
  const note = temporaryPath(join(scratchDir, NOTE));
  const forget = (): Promise<void> => unlink(note).catch(() => undefined);
  try {
    await using file = await open(note, 'wx', 0o600);
    await file.writeFile(JSON.stringify(path));
  } catch (error) {
    await forget();
    throw fileError(`cannot write to ${scratchDir}`, error);
  }
  return { [Symbol.asyncDispose]: forget };
}

export interface Swept {
  readonly path: string;
  /** Undefined: it is gone. */
  readonly error?: unknown;
}

/** Removes what dead processes noted and left. What cannot be removed now is not tried again. */
export async function sweepOutside(scratchDir: string): Promise<readonly Swept[]> {
  const swept: Swept[] = [];
  for (const name of await listDir(scratchDir)) {
    if (!name.startsWith(`.${NOTE}.tmp-`) || !isAbandonedTemporary(name)) continue;
    const note = join(scratchDir, name);
    const path = await readJsonFile(note, MAX_NOTE_BYTES).catch(() => undefined);
    if (isLeft(path)) {
      const error = await removeTree(path, { below: dirname(path) }).then(
        () => undefined,
        (cause: unknown) => cause,
      );
      swept.push(error === undefined ? { path } : { path, error });
    }
    await removeTree(note, { below: scratchDir });
  }
  return swept;
}

/** A note that was not finished names nothing: what it was for had not been begun. */
function isLeft(path: unknown): path is string {
  return typeof path === 'string' && isAbsolute(path) && isAbandonedTemporary(basename(path));
}
