/** Drafts: directories of artifacts that appear under their name whole, or not at all. */

import { mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { makeTemporaryDir, publishDir, removeTree, sweepTemporaries } from './files.ts';

/** A private directory that is removed when released. */
export interface TempDir extends AsyncDisposable {
  readonly dir: string;
}

/** A directory that is being filled. Released without `publish`, it is removed. */
export interface Draft extends TempDir {
  /**
   * Makes everything in it durable and renames it to its name, in the place of what was there when the draft was
   * begun. What another process published meanwhile stays: somebody may be using it already.
   * @returns whether this draft became the published one
   */
  publish(): Promise<boolean>;
}

/** Makes a temporary directory in `parent`; what dead processes left there is swept. */
export async function createTempDir(parent: string, name: string): Promise<TempDir> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  await sweepTemporaries(parent);
  const dir = await makeTemporaryDir(join(parent, name));
  return { dir, [Symbol.asyncDispose]: () => removeTree(dir, { below: parent }) };
}

/** Starts a draft of `parent/name` in a temporary directory beside it. */
export async function createDraft(parent: string, name: string): Promise<Draft> {
  const temp = await createTempDir(parent, name);
  const final = join(parent, name);
  const before = await identity(final);
  return { ...temp, publish: () => publish(temp.dir, final, before) };
}

async function publish(dir: string, final: string, before: string | undefined): Promise<boolean> {
  if ((await identity(final)) !== before) return false;
  try {
    await publishDir(dir, final, { replace: before !== undefined });
    return true;
  } catch (error) {
    if (error instanceof BangerError && error.code === 'already_exists') return false;
    throw error;
  }
}

/** Which directory a name stands for: inode and change time, undefined when there is none. */
async function identity(path: string): Promise<string | undefined> {
  try {
    const { ino, ctimeNs } = await stat(path, { bigint: true });
    return `${ino}:${ctimeNs}`;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new BangerError('io_error', `cannot look at ${path} in ${dirname(path)}`, { cause: error });
  }
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
