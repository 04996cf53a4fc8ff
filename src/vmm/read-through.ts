/** Brings a file into the page cache. */

import { open } from 'node:fs/promises';

const READ_AHEAD_BYTES = 4 * 1024 * 1024;

export async function readThrough(path: string, signal: AbortSignal): Promise<void> {
  await using file = await open(path, 'r');
  const chunk = Buffer.alloc(READ_AHEAD_BYTES);
  while (!signal.aborted) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, null);
    if (bytesRead === 0) return;
  }
}
