/** A file's content, from its last lines on and as it grows. */

import { open, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const CHUNK_BYTES = 64 * 1024;
/** Polling, because inotify does not see every file system and a log is read by a person. */
const POLL_MS = 250;
const LINE_FEED = 10;

export interface FollowOptions {
  /** Resolves when the reader can take more. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  readonly follow: boolean;
  readonly tailLines: number | undefined;
  /** Ends following, without an error. */
  readonly signal: AbortSignal;
}

/**
 * Copies the file; a file that is replaced or truncated is read again from its beginning.
 * @returns false when there is no such file
 */
export async function followFile(path: string, options: FollowOptions): Promise<boolean> {
  let inode: number | undefined;
  let position = 0;
  while (true) {
    const found = await stat(path).catch(ignoreMissing);
    if (found === undefined && inode === undefined && !options.follow) return false;
    if (found !== undefined) {
      if (inode === undefined) {
        position = options.tailLines === undefined ? 0 : await tailPosition(path, options.tailLines);
      } else if (found.ino !== inode || found.size < position) {
        position = 0;
      }
      inode = found.ino;
      position = await copyFrom(path, position, options);
    }
    if (!options.follow || options.signal.aborted) return true;
    await sleep(POLL_MS, undefined, { signal: options.signal }).catch(() => undefined);
    if (options.signal.aborted) return true;
  }
}

async function copyFrom(path: string, start: number, options: FollowOptions): Promise<number> {
  await using file = await open(path, 'r');
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let position = start;
  while (!options.signal.aborted) {
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    await options.write(Buffer.from(buffer.subarray(0, bytesRead)));
  }
  return position;
}

/** Where the last `lines` lines begin: reads backwards, so that a big log costs no more than its tail. */
async function tailPosition(path: string, lines: number): Promise<number> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  if (lines === 0) return size;
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let end = size;
  let missing = lines;
  while (end > 0) {
    const start = Math.max(0, end - CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, end - start, start);
    for (let index = bytesRead - 1; index >= 0; index -= 1) {
      // The line feed that ends the file's last line begins no line.
      if (buffer[index] !== LINE_FEED || start + index === size - 1) continue;
      missing -= 1;
      if (missing === 0) return start + index + 1;
    }
    end = start;
  }
  return 0;
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
