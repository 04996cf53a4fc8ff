/**
 * Publishes a directory of artifacts by one rename: a reader sees all of it or nothing, and a crash leaves only a
 * temporary directory whose name says that it may be swept.
 */

import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError } from '../core/errors.ts';

const TEMP_PREFIX = '.tmp-';
const ARTIFACT_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** A private directory that is removed when released. */
export interface TempDir extends AsyncDisposable {
  readonly dir: string;
}

/** A directory that is being filled. Released without `publish`, it is removed. */
export interface Draft extends TempDir {
  /**
   * Makes everything in it durable and renames it to its name. A directory of that name that appeared meanwhile wins.
   * @returns whether this draft became the published one
   */
  publish(): Promise<boolean>;
}

/**
 * Refuses names that are no plain directory name.
 * @throws {BangerError} `bad_request`
 */
export function checkArtifactName(kind: 'image' | 'kernel', name: string): void {
  if (ARTIFACT_NAME.test(name)) return;
  throw new BangerError('bad_request', `"${name.slice(0, 80)}" is not a valid ${kind} name`, {
    hint: 'use 1 to 63 characters of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit',
  });
}

/**
 * Makes a temporary directory in `parent`. It carries this process's id, so that another process can tell whether
 * somebody still uses it; directories of processes that are gone are swept.
 */
export async function createTempDir(parent: string, name: string): Promise<TempDir> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  await sweepTempDirs(parent);
  const dir = join(parent, `${TEMP_PREFIX}${process.pid}-${name}-${randomBytes(4).toString('hex')}`);
  await mkdir(dir, { mode: 0o755 });
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

/** Starts a draft of `parent/name` in a temporary directory beside it. */
export async function createDraft(parent: string, name: string): Promise<Draft> {
  const temp = await createTempDir(parent, name);
  return { ...temp, publish: () => publish(temp.dir, join(parent, name)) };
}

/** Removes temporary directories in `parent` whose process is gone. */
export async function sweepTempDirs(parent: string): Promise<void> {
  for (const entry of await readdir(parent)) {
    const pid = /^\.tmp-(\d+)-/.exec(entry)?.[1];
    if (pid === undefined || (await isAlive(Number(pid)))) continue;
    await rm(join(parent, entry), { recursive: true, force: true });
  }
}

/** Flushes a file or directory to disk. */
export async function fsyncPath(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}

async function publish(dir: string, target: string): Promise<boolean> {
  await fsyncTree(dir);
  try {
    await rename(dir, target);
  } catch (error) {
    if (isErrno(error, 'ENOTEMPTY') || isErrno(error, 'EEXIST')) return false;
    throw error;
  }
  await fsyncPath(dirname(target));
  return true;
}

async function fsyncTree(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) await fsyncTree(path);
    else await fsyncPath(path);
  }
  await fsyncPath(dir);
}

async function isAlive(pid: number): Promise<boolean> {
  try {
    await stat(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
