/** What deep checks read whole files with. */

import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

const READ_BYTES = 1024 * 1024;

/** sha256, hex. */
export async function fileDigest(path: string, signal: AbortSignal): Promise<string> {
  await using file = await open(path, 'r');
  const hash = createHash('sha256');
  const block = Buffer.allocUnsafe(READ_BYTES);
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(block, 0, block.length, null);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(block.subarray(0, bytesRead));
  }
}
