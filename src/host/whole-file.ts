/** A file for a user, at a path of theirs: it appears whole or not at all, and replaces nothing unless that is wanted. */

import { link, lstat, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { isErrno } from './drafts.ts';
import { fileError, syncDir, temporaryPath } from './files.ts';
import { noteOutside } from './outside.ts';

export interface WholeFileOptions {
  /** Also in the place of another file. */
  readonly force: boolean;
  /** Default 0600. */
  readonly mode?: number;
  /** Where it is noted while it is not whole: see `noteOutside`. */
  readonly scratchDir: string;
}

export interface WholeFileSink {
  write(bytes: Uint8Array): Promise<void>;
}

/** @throws {BangerError} `already_exists`, `permission`, `io_error` */
export async function assertFree(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw fileError(`cannot write ${path}`, error);
  });
  if (found !== undefined) throw occupied(path);
}

/**
 * Written beside it under another name, 0600, and renamed when it is whole and on the disk.
 * @throws {BangerError} `already_exists`, `no_space`, `permission`, `io_error`, and what `write` throws
 */
export async function writeWholeFile<T>(
  path: string,
  { force, mode, scratchDir }: WholeFileOptions,
  write: (sink: WholeFileSink) => Promise<T>,
): Promise<T> {
  const found = await lstat(path).catch(() => undefined);
  if (found !== undefined && !found.isFile())
    throw new BangerError('already_exists', `${path} is not a regular file: it is not replaced`);
  const temporary = temporaryPath(path);
  await using _note = await noteOutside(scratchDir, temporary);
  let isNew = false;
  try {
    const file = await open(temporary, 'wx', 0o600);
    let result: T;
    try {
      result = await write({ write: (bytes) => file.writeFile(bytes) });
      if (mode !== undefined) await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    if (force) await rename(temporary, path);
    else {
      await publish(temporary, path);
      isNew = true;
    }
    await syncDir(dirname(path));
    return result;
  } catch (error) {
    for (const left of isNew ? [temporary, path] : [temporary]) await unlink(left).catch(() => undefined);
    if (error instanceof Error && 'syscall' in error) throw fileError(`cannot write ${path}`, error);
    throw error;
  }
}

/** A rename that replaces nothing, also nothing that came meanwhile. */
async function publish(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    if (isErrno(error, 'EEXIST')) throw occupied(path, error);
    // File systems of memory cards have no links.
    await assertFree(path);
    await rename(temporary, path);
    return;
  }
  await unlink(temporary);
}

function occupied(path: string, cause?: unknown): BangerError {
  return new BangerError('already_exists', `${path} exists already`, { hint: '--force replaces it', cause });
}
