/** Changes a file of the user's in its place: whole or not at all, and nothing of it but its content. */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, chown, lstat, mkdir, open, readFile, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';

const MAX_BYTES = 1024 * 1024;

interface Found {
  /** Where links lead to. */
  readonly path: string;
  readonly isLinked: boolean;
  readonly text: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly stamp: string;
}

/**
 * @param change gets the text with one character per byte (latin1), or null where there is no file, and gives the new one; null: no
 *   file (an empty one where a link leads to it). What it throws is thrown on
 * @returns whether anything was changed
 * @throws {BangerError} `permission`, `io_error`, `limit_exceeded`, `in_use` (somebody else changed it meanwhile)
 */
export async function editFile(
  path: string,
  change: (text: string | null) => string | null,
): Promise<boolean> {
  try {
    const found = await find(path);
    const text = change(found?.text ?? null);
    if (text === (found?.text ?? null)) return false;
    if (found === undefined) await create(path, text ?? '');
    else if (text === null && !found.isLinked) await unlink(found.path);
    else await replace(found, text ?? '');
    return true;
  } catch (error) {
    throw asBangerError(path, error);
  }
}

async function find(path: string): Promise<Found | undefined> {
  const entry = await lstat(path).catch(unlessMissing);
  if (entry === undefined) return undefined;
  const target = await realpath(path).catch(unlessMissing);
  if (target === undefined)
    throw new BangerError('io_error', `${path} is a link to a file that is not there`, {
      hint: `ls -l ${path}`,
    });
  const facts = await stat(target);
  if (!facts.isFile()) throw new BangerError('io_error', `${target} is not a regular file`);
  if (facts.size > MAX_BYTES)
    throw new BangerError('limit_exceeded', `${target} is larger than ${MAX_BYTES} bytes`);
  // A rename would do it all the same; but somebody has said that it is not to be written.
  if ((facts.mode & constants.S_IWUSR) === 0) {
    throw new BangerError('permission', `${target} is read-only`, { hint: `chmod u+w ${target}` });
  }
  const text = (await readFile(target)).toString('latin1');
  const { mode, uid, gid } = facts;
  return {
    path: target,
    isLinked: entry.isSymbolicLink(),
    text,
    mode: mode & 0o7777,
    uid,
    gid,
    stamp: stampOf(facts),
  };
}

/** ssh refuses a directory or file that others can write. */
async function create(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = await write(path, text, 0o600);
  await rename(temporary, path);
}

async function replace(found: Found, text: string): Promise<void> {
  const temporary = await write(found.path, text, found.mode);
  try {
    const { uid, gid } = await stat(temporary);
    if (uid !== found.uid || gid !== found.gid) await chown(temporary, found.uid, found.gid);
    await chmod(temporary, found.mode);
    if (stampOf(await stat(found.path)) !== found.stamp) {
      throw new BangerError('in_use', `${found.path} was changed by somebody else just now`, {
        hint: 'run the command again',
      });
    }
    await rename(temporary, found.path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** Beside the file, so that it can be renamed to it. */
async function write(path: string, text: string, mode: number): Promise<string> {
  const temporary = `${path}.banger-${process.pid}-${randomBytes(6).toString('hex')}`;
  await using file = await open(temporary, 'wx', mode & 0o700);
  await file.writeFile(Buffer.from(text, 'latin1'));
  await file.sync();
  return temporary;
}

function stampOf({ ino, size, mtimeMs, ctimeMs }: Awaited<ReturnType<typeof stat>>): string {
  return [ino, size, mtimeMs, ctimeMs].join(':');
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

function asBangerError(path: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof BangerError || code === undefined) return error;
  const isDenied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  const message = `cannot change ${path}: ${systemReason(error) ?? code}`;
  return new BangerError(isDenied ? 'permission' : 'io_error', message, {
    hint: `ls -ld ${dirname(path)} ${path}`,
    cause: error,
  });
}
