/** File system steps that stay whole when the process dies between two of them. */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  copyFile,
  lstat,
  mkdir,
  open,
  opendir,
  readdir,
  realpath,
  rename,
  rmdir,
  unlink,
} from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';
import { pidStartTicks } from './proc.ts';

export interface WriteOptions {
  /** Default 0600. */
  readonly mode?: number;
  /** Survives a power cut, not only a crash of this process. Default true. */
  readonly durable?: boolean;
}

/** Replaces `path` as a whole: a reader sees the old content or the new, never a part. */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: WriteOptions = {},
): Promise<void> {
  const durable = options.durable ?? true;
  const temporary = temporaryPath(path);
  try {
    const file = await open(temporary, 'wx', options.mode ?? 0o600);
    try {
      await file.writeFile(data);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw fileError(`cannot write ${path}`, error);
  }
  if (durable) await syncDir(dirname(path));
}

const MAX_JSON_BYTES = 4 * 1024 * 1024;
const READ_BYTES = 64 * 1024;

/**
 * The parsed content, which the caller must still check; undefined when there is no such file.
 * @throws {BangerError} `limit_exceeded` (larger than the cap), `io_error` (not JSON, unreadable, not a regular file)
 */
export async function readJsonFile(path: string, maxBytes = MAX_JSON_BYTES): Promise<unknown> {
  const text = await readTextFile(path, maxBytes);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new BangerError('io_error', `${path} is not JSON`, { cause });
  }
}

/** The whole file as UTF-8; undefined when there is no such file. Errors as `readJsonFile`. */
export async function readTextFile(path: string, maxBytes: number): Promise<string | undefined> {
  try {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile()) throw new BangerError('io_error', `${path} is not a regular file`);
    // Its size is no promise: it may grow, and files of /proc claim to be empty.
    const chunks: Buffer[] = [];
    let length = 0;
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, null);
      if (bytesRead === 0) return Buffer.concat(chunks).toString('utf8');
      length += bytesRead;
      if (length > maxBytes)
        throw new BangerError('limit_exceeded', `${path} is larger than ${maxBytes} bytes`);
      chunks.push(buffer.subarray(0, bytesRead));
    }
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    if (error instanceof BangerError) throw error;
    throw fileError(`cannot read ${path}`, error);
  }
}

/** Makes the names in a directory durable: a rename or a new file in it survives a power cut. */
export async function syncDir(dir: string): Promise<void> {
  await using handle = await open(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  await handle.sync();
}

export interface RemoveOptions {
  /** The directory of ours that `path` must lie in: a mistake must not reach the user's own files. */
  readonly below: string;
  /** More entries than this is an error, before which some may be gone. Default 1,000,000. */
  readonly maxEntries?: number;
}

/**
 * Removes a file or a directory with all in it; missing is fine. Symbolic links are removed, never followed.
 * @throws {BangerError} `limit_exceeded`, `permission`, `io_error`
 */
export async function removeTree(path: string, options: RemoveOptions): Promise<void> {
  await assertBelow(path, options.below);
  let left = options.maxEntries ?? 1_000_000;
  /** In bytes: names need not be UTF-8. */
  const removeEntry = async (entry: Buffer): Promise<void> => {
    left -= 1;
    if (left < 0) throw new BangerError('limit_exceeded', `${path} holds too many files to remove`);
    try {
      if (!(await lstat(entry)).isDirectory()) return await unlink(entry);
      for (const name of await readdir(entry, { encoding: 'buffer' }))
        await removeEntry(Buffer.concat([entry, Buffer.from('/'), name]));
      await rmdir(entry);
    } catch (error) {
      // Somebody else removes it, too.
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  };
  try {
    await removeEntry(Buffer.from(path));
  } catch (error) {
    if (error instanceof BangerError) throw error;
    throw fileError(`cannot remove ${path}`, error);
  }
}

async function assertBelow(path: string, below: string): Promise<void> {
  const root = await realpath(below).catch(() => below);
  // The entry itself may be a link and is then only unlinked; its parents must not lead elsewhere.
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  const name = basename(path);
  const inside = parent === root || parent.startsWith(root.endsWith(sep) ? root : root + sep);
  if (inside && name !== '' && name !== '.' && name !== '..') return;
  throw new BangerError('permission', `refusing to remove ${path}: it is not below ${below}`);
}

/**
 * A name beside `path` for building it before the publishing rename. It names the process, so that
 * `sweepTemporaries` can tell what a dead one left from what a live one is working on.
 */
export function temporaryPath(path: string): string {
  const random = randomBytes(6).toString('hex');
  return join(dirname(path), `.${basename(path)}.tmp-${process.pid}-${ownStartTicks()}-${random}`);
}

const TEMPORARY = /^\..+\.tmp-(\d+)-(\d+)-[0-9a-f]{12}$/;

let startTicks: number | undefined;
function ownStartTicks(): number {
  startTicks ??= pidStartTicks(process.pid) ?? 0;
  return startTicks;
}

/** A new, empty directory to build `final` in, 0700; then `publishDir`, or `removeTree` on failure. */
export async function makeTemporaryDir(final: string): Promise<string> {
  const path = temporaryPath(final);
  await mkdir(path, { mode: 0o700 });
  return path;
}

/** Whether a name is one of `temporaryPath`, of a process that is gone. */
export function isAbandonedTemporary(name: string): boolean {
  const match = TEMPORARY.exec(name);
  return match !== null && pidStartTicks(Number(match[1])) !== Number(match[2]);
}

/** Removes what dead processes left in `dir` under names of `temporaryPath`. Returns the names removed. */
export async function sweepTemporaries(dir: string): Promise<readonly string[]> {
  const removed: string[] = [];
  for (const name of await listDir(dir)) {
    if (!isAbandonedTemporary(name)) continue;
    await removeTree(join(dir, name), { below: dir });
    removed.push(name);
  }
  return removed;
}

/** Names in a directory, sorted; none when it is missing. */
export async function listDir(dir: string): Promise<readonly string[]> {
  const names: string[] = [];
  try {
    for await (const entry of await opendir(dir)) names.push(entry.name);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw fileError(`cannot read ${dir}`, error);
  }
  return names.sort();
}

export interface PublishOptions {
  /** Put it in the place of an existing directory, which is removed. Default false. */
  readonly replace?: boolean;
}

/**
 * Makes a finished directory visible under its final name, durably: its files first, then the rename.
 * With `replace` there is a moment with neither; a reader retries, and a crash in it loses only the old one.
 * @throws {BangerError} `already_exists`, `io_error`
 */
export async function publishDir(
  temporary: string,
  final: string,
  options: PublishOptions = {},
): Promise<void> {
  await syncTree(temporary);
  const parent = dirname(final);
  const old = temporaryPath(final);
  let moved = false;
  if (options.replace === true) moved = await renameIfThere(final, old);
  try {
    await rename(temporary, final);
  } catch (error) {
    if (moved) await rename(old, final);
    const code = codeOf(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') {
      throw new BangerError('already_exists', `${final} exists already`, { cause: error });
    }
    throw fileError(`cannot publish ${final}`, error);
  }
  await syncDir(parent);
  if (moved) await removeTree(old, { below: parent });
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw fileError(`cannot move ${from} away`, error);
  }
}

async function syncTree(dir: string): Promise<void> {
  for await (const entry of await opendir(dir)) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    if (!entry.isFile()) continue;
    await using file = await open(path, 'r');
    await file.sync();
  }
  await syncDir(dir);
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** An error of the file system in our words: what was tried, on what, and why not. */
export function fileError(what: string, error: unknown): BangerError {
  if (error instanceof BangerError) return error;
  const code = codeOf(error);
  const reason = systemReason(error) ?? errorText(error);
  const options = { cause: error };
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new BangerError('no_space', `${what}: no space left`, {
      ...options,
      hint: 'df -h shows what is full',
    });
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new BangerError('permission', `${what}: ${reason}`, options);
  }
  return new BangerError('io_error', `${what}: ${reason}`, options);
}

/** Nothing where there is nothing; what is at `to` is overwritten. @throws {BangerError} as `fileError` */
export async function copyFileIfThere(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || (await isThere(from)))
      throw fileError(`cannot copy ${from} to ${to}`, error);
  }
}

/** Whether a file is there that can be opened. @throws what open(2) says but ENOENT */
export async function isThere(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
