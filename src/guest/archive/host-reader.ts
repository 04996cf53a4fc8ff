/** Files of the host as the records of an archive. */

import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { fileError } from '../../host/files.ts';
import { type ArchiveRecord, isArchivePath, pathBelow } from './records.ts';

export interface ReadSettings {
  readonly signal: AbortSignal;
  /** What the top one leads to, where it is a symbolic link. */
  readonly follow: boolean;
  /** A device, socket or FIFO is left out. */
  readonly onSkipped: (path: Buffer) => void;
}

const READ_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(READ_BYTES);
const STAT_BLOCK_BYTES = 512n;
const PERMISSION_BITS = 0o777n;
const SLASH = Buffer.from('/');

/**
 * A file, link or tree under the path `name` of the archive; with an empty name everything in the directory. Directories come after
 * what is in them. Set-id and sticky bits are dropped; special files, and what vanishes in a tree meanwhile, are left out.
 * @param source absolute; any bytes
 * @throws {BangerError} `not_found`, `permission`, `io_error`, `bad_request` (a path too long or too deep), `cancelled`
 */
export async function* readHostTree(
  source: Buffer,
  name: Buffer,
  settings: ReadSettings,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  if (name.length === 0) yield* readEntries(source, name, settings);
  else yield* readEntry(source, name, await statusOf(source, settings.follow), settings);
}

async function statusOf(path: Buffer, follow: boolean): Promise<BigIntStats> {
  try {
    return await (follow ? stat(path, { bigint: true }) : lstat(path, { bigint: true }));
  } catch (error) {
    throw readError(path, error);
  }
}

async function* readEntry(
  path: Buffer,
  name: Buffer,
  status: BigIntStats,
  settings: ReadSettings,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  assertNotAborted(settings);
  if (!isArchivePath(name)) {
    throw new BangerError('bad_request', `${path.toString()} is too deep, or its path too long`);
  }
  const mode = Number(status.mode & PERMISSION_BITS);
  const { mtimeNs } = status;
  if (status.isDirectory()) {
    yield* readEntries(path, name, settings);
    yield { kind: 'directory', path: name, mode, mtimeNs };
  } else if (status.isSymbolicLink()) {
    yield { kind: 'symlink', path: name, target: await readlink(path, { encoding: 'buffer' }), mtimeNs };
  } else if (status.isFile()) yield* readFile(path, name, settings);
  else settings.onSkipped(path);
}

async function* readEntries(
  directory: Buffer,
  name: Buffer,
  settings: ReadSettings,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  let entries: Buffer[];
  try {
    entries = await readdir(directory, { encoding: 'buffer' });
  } catch (error) {
    throw readError(directory, error);
  }
  for (const entry of entries) {
    const path = pathBelow(directory, entry);
    const below = name.length === 0 ? entry : Buffer.concat([name, SLASH, entry]);
    try {
      yield* readEntry(path, below, await statusOf(path, false), { ...settings, follow: false });
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'not_found') throw error;
    }
  }
}

async function* readFile(
  path: Buffer,
  name: Buffer,
  settings: ReadSettings,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  const file = await openFile(path, settings.follow);
  try {
    // It may be another one than was looked at.
    const status = await file.stat({ bigint: true });
    if (!status.isFile()) return settings.onSkipped(path);
    const sizeBytes = Number(status.size);
    const mode = Number(status.mode & PERMISSION_BITS);
    yield { kind: 'file', path: name, mode, mtimeNs: status.mtimeNs, sizeBytes };
    const hasHoles = status.blocks * STAT_BLOCK_BYTES < status.size;
    let end = 0;
    for await (const { offset, bytes } of blocks(file, sizeBytes, path)) {
      assertNotAborted(settings);
      end = offset + bytes.length;
      const isHole = hasHoles && ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
      if (!isHole) yield { kind: 'data', offset, bytes };
    }
    yield { kind: 'fileEnd', sizeBytes: end };
  } finally {
    await file.close();
  }
}

/** Up to the size it had: one that grows meanwhile never ends. */
async function* blocks(
  file: FileHandle,
  sizeBytes: number,
  path: Buffer,
): AsyncGenerator<{ readonly offset: number; readonly bytes: Buffer }, void, undefined> {
  for (let offset = 0; offset < sizeBytes; ) {
    const length = Math.min(READ_BYTES, sizeBytes - offset);
    let bytes: Buffer;
    try {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, offset);
      bytes = buffer.subarray(0, bytesRead);
    } catch (error) {
      throw readError(path, error);
    }
    if (bytes.length === 0) return;
    yield { offset, bytes };
    offset += bytes.length;
  }
}

async function openFile(path: Buffer, follow: boolean): Promise<FileHandle> {
  try {
    // O_NONBLOCK: opening a FIFO that has taken its place must not wait for its writer.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK | (follow ? 0 : constants.O_NOFOLLOW));
  } catch (error) {
    throw readError(path, error);
  }
}

function readError(path: Buffer, error: unknown): BangerError {
  const text = path.toString();
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
    return new BangerError('not_found', `${text} does not exist`, { cause: error });
  }
  return fileError(`cannot read ${text}`, error);
}

function assertNotAborted({ signal }: ReadSettings): void {
  if (signal.aborted) throw new BangerError('cancelled', 'copying was cancelled');
}
