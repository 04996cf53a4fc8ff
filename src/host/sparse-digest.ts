/**
 * A digest of a large sparse file that does not cost the reading and hashing of its holes.
 *
 * Definition: sha256 over, for each 64 KiB block of the file that is not all zero, in ascending order, the block's
 * number as a 64-bit little-endian integer and its bytes (a last, shorter block is padded with zeros); and then the
 * file's size in bytes, likewise 64-bit little-endian. It depends on the content alone, not on where the holes are.
 */

import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from './runner.ts';

const BLOCK_BYTES = 64 * 1024;
const TIMEOUT_MS = 60_000;
const ZEROS = Buffer.alloc(BLOCK_BYTES);
const mapSchema = z.array(
  z.looseObject({
    start: z.number().int().nonnegative(),
    length: z.number().int().nonnegative(),
    data: z.boolean(),
  }),
);

/** @returns hex. @throws {BangerError} `dependency_missing` (qemu-img), `io_error`, `cancelled` */
export async function sparseDigest(
  path: string,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<string> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const hash = createHash('sha256');
  const block = Buffer.alloc(BLOCK_BYTES);
  let next = 0;
  for (const extent of await dataExtents(path, runner, signal)) {
    const end = Math.min(extent.start + extent.length, size);
    for (
      let number = Math.max(next, Math.floor(extent.start / BLOCK_BYTES));
      number * BLOCK_BYTES < end;
      number++
    ) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(block, 0, BLOCK_BYTES, number * BLOCK_BYTES);
      block.fill(0, bytesRead);
      if (!block.equals(ZEROS)) hash.update(u64(number)).update(block);
      next = number + 1;
    }
  }
  return hash.update(u64(size)).digest('hex');
}

/** Node has no SEEK_DATA; qemu-img asks the file system with it. */
async function dataExtents(path: string, runner: CommandRunner, signal: AbortSignal) {
  const argv = ['qemu-img', 'map', '--output=json', '-f', 'raw', path] as const;
  const { stdout } = await runner.run(argv, { signal, timeoutMs: TIMEOUT_MS });
  const result = mapSchema.safeParse(JSON.parse(stdout.toString('utf8')));
  if (!result.success)
    throw new BangerError('io_error', `qemu-img map printed what is not understood for ${path}`);
  return result.data.filter(({ data }) => data);
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
