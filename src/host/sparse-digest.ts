/**
 * A digest of a large sparse file that does not cost the reading and hashing of its holes.
 *
 * Definition: sha256 over, for each 64 KiB block of the file that is not all zero, in ascending order, the block's
 * number as a 64-bit little-endian integer and its bytes (a last, shorter block is padded with zeros); and then the
 * file's size in bytes, likewise 64-bit little-endian. It depends on the content alone, not on where the holes are.
 */

import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from './runner.ts';

export const SPARSE_BLOCK_BYTES = 64 * 1024;
const TIMEOUT_MS = 60_000;
const ZEROS = Buffer.alloc(SPARSE_BLOCK_BYTES);
const mapSchema = z.array(
  z.looseObject({
    start: z.number().int().nonnegative(),
    length: z.number().int().nonnegative(),
    data: z.boolean(),
  }),
);

/** A range of a file outside of which there are only zeros. */
export interface Extent {
  readonly start: number;
  readonly length: number;
}

export interface SparseFacts {
  readonly sizeBytes: number;
  /** Of the blocks that are not all zero; the last one as far as the file goes. */
  readonly dataBytes: number;
  /** Hex. */
  readonly sparseSha256: string;
}

/** The digest while its blocks come: each once, in ascending order. Blocks of zeros may be given or left out. */
export class SparseHash {
  readonly #hash = createHash('sha256');
  #dataBytes = 0;

  /** Bytes of the blocks that were not all zero. */
  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** @param bytes whole blocks from there on; a last, shorter one where the file ends */
  add(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += SPARSE_BLOCK_BYTES) {
      const block = bytes.subarray(at, at + SPARSE_BLOCK_BYTES);
      if (isZero(block)) continue;
      this.#dataBytes += block.length;
      this.#hash.update(u64((offset + at) / SPARSE_BLOCK_BYTES)).update(block);
      if (block.length < SPARSE_BLOCK_BYTES) this.#hash.update(ZEROS.subarray(block.length));
    }
  }

  /** Ends it. */
  facts(sizeBytes: number): SparseFacts {
    const sparseSha256 = this.#hash.update(u64(sizeBytes)).digest('hex');
    return { sizeBytes, dataBytes: this.#dataBytes, sparseSha256 };
  }
}

/** @returns hex. @throws {BangerError} `dependency_missing` (qemu-img), `io_error`, `cancelled` */
export async function sparseDigest(
  path: string,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<string> {
  await using file = await open(path, 'r');
  return (await sparseFacts(file, await dataExtents(path, runner, signal), signal)).sparseSha256;
}

export async function sparseFacts(
  file: FileHandle,
  extents: readonly Extent[],
  signal: AbortSignal,
): Promise<SparseFacts> {
  const { size } = await file.stat();
  const hash = new SparseHash();
  for await (const { offset, bytes } of dataBlocks(file, size, extents, signal)) hash.add(offset, bytes);
  return hash.facts(size);
}

export interface DataBlock {
  /** A multiple of the block's size. */
  readonly offset: number;
  /** Shorter than a block only where the file ends. Valid until the next one is asked for. */
  readonly bytes: Uint8Array;
}

/** The blocks of a file that are not all zero, in ascending order. @throws {BangerError} `cancelled` */
export async function* dataBlocks(
  file: FileHandle,
  sizeBytes: number,
  extents: readonly Extent[],
  signal: AbortSignal,
): AsyncGenerator<DataBlock, void, void> {
  const buffer = Buffer.alloc(SPARSE_BLOCK_BYTES);
  let next = 0;
  for (const extent of extents) {
    const end = Math.min(extent.start + extent.length, sizeBytes);
    const first = extent.start - (extent.start % SPARSE_BLOCK_BYTES);
    for (let offset = Math.max(next, first); offset < end; offset += SPARSE_BLOCK_BYTES) {
      if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
      const { bytesRead } = await file.read(buffer, 0, SPARSE_BLOCK_BYTES, offset);
      // What a file that has become shorter lacks are zeros.
      buffer.fill(0, bytesRead);
      const bytes = buffer.subarray(0, Math.min(SPARSE_BLOCK_BYTES, sizeBytes - offset));
      if (!isZero(bytes)) yield { offset, bytes };
      next = offset + SPARSE_BLOCK_BYTES;
    }
  }
}

/** Node has no SEEK_DATA; qemu-img asks the file system with it. @param path a file's, or of `openFilePath` */
export async function dataExtents(
  path: string,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<readonly Extent[]> {
  const argv = ['qemu-img', 'map', '--output=json', '-f', 'raw', path] as const;
  const { stdout } = await runner.run(argv, { signal, timeoutMs: TIMEOUT_MS });
  const result = mapSchema.safeParse(JSON.parse(stdout.toString('utf8')));
  if (!result.success)
    throw new BangerError('io_error', `qemu-img map printed what is not understood for ${path}`);
  return result.data.filter(({ data }) => data);
}

/** A name for a file that is open here which other processes of this user can open, also when it has been deleted: proc(5). */
export function openFilePath(file: FileHandle): string {
  return `/proc/${process.pid}/fd/${file.fd}`;
}

function isZero(block: Uint8Array): boolean {
  return ZEROS.compare(block, 0, block.length, 0, block.length) === 0;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
