/** Reading a snapshot's two files, within limits. */

import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { isOpenHere } from '../host/open-here.ts';
import { MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES } from './manifest.ts';
import { MANIFEST_SUFFIX } from './snapshot-names.ts';

/** A payload as encoded and its manifest, as `verify` takes them: not verified by having this type. */
export interface SnapshotBytes {
  readonly data: Buffer;
  readonly manifestBytes: Buffer;
}

export interface ReadSettings {
  /** Default true. Nothing in the collection is a link. */
  readonly followLinks?: boolean;
}

/**
 * The two files of a snapshot, unverified; undefined when neither is there.
 * @throws {BangerError} `verify_failed` (one of them is missing), and as `readCapped`
 */
export async function readSnapshotFiles(
  path: string,
  settings: ReadSettings = {},
): Promise<SnapshotBytes | undefined> {
  // The payload first: prune removes the manifest first.
  const data = await readCapped(path, MAX_PAYLOAD_BYTES, settings);
  const manifestBytes = await readCapped(path + MANIFEST_SUFFIX, MAX_MANIFEST_BYTES, settings);
  if (data !== undefined && manifestBytes !== undefined) return { data, manifestBytes };
  if (data === undefined && manifestBytes === undefined) return undefined;
  const missing = data === undefined ? path : path + MANIFEST_SUFFIX;
  throw new BangerError('verify_failed', `not a whole snapshot: ${missing} is missing`);
}

/**
 * The whole file; undefined when there is none.
 * @throws {BangerError} `limit_exceeded`, `io_error` (not a regular file, or a link where none may be), `permission`,
 *   `in_use` (a database or a lock of this process)
 */
export async function readCapped(
  path: string,
  maxBytes: number,
  settings: ReadSettings = {},
): Promise<Buffer | undefined> {
  const noFollow = settings.followLinks === false ? constants.O_NOFOLLOW : 0;
  try {
    if (isOpenHere(path))
      throw new BangerError('in_use', `${path} is no snapshot: bangerd itself works with it`);
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | noFollow);
    const stat = await file.stat();
    if (!stat.isFile()) throw new BangerError('io_error', `${path} is not a regular file`);
    const tooLarge = stat.size > maxBytes;
    if (tooLarge) throw new BangerError('limit_exceeded', `${path} is larger than ${maxBytes} bytes`);
    return await readExactly(file, path, stat.size);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP' && noFollow !== 0) throw new BangerError('io_error', `${path} is a symbolic link`);
    throw fileError(`cannot read ${path}`, error);
  }
}

/** Whether the system would not let something be read, rather than that it was read and is wrong: it may be good. */
export function isUnread(error: unknown): boolean {
  const cause = error instanceof BangerError ? error.cause : error;
  return cause instanceof Error && 'syscall' in cause;
}

/** One byte more is asked for than there should be: a file that grows is not read to the end. */
async function readExactly(file: FileHandle, path: string, size: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(size + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
    length += bytesRead;
    if (bytesRead === 0) break;
  }
  if (length === size) return buffer.subarray(0, size);
  throw new BangerError('io_error', `${path} changed while it was read`);
}
