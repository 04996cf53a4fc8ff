/** Writes a snapshot as one file. The same snapshot gives the same bytes. */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { zstdCompress } from 'node:zlib';
import { BangerError } from '../core/errors.ts';
import { dataBlocks, type Extent, SparseHash } from '../host/sparse-digest.ts';
import {
  EXPORT_MAGIC,
  EXPORT_VERSION,
  type ExportedFile,
  type ExportHeader,
  EXTENT_HEADER_BYTES,
  EXTENTS_AT_ONCE,
  MAX_EXTENT_BYTES,
  PREAMBLE_BYTES,
  ZSTD_WRITING,
} from './export-format.ts';

const compress = promisify<Uint8Array, object, Buffer>(zstdCompress);

/** Where the bytes go. `write` settles when more may come. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

/** A file of the snapshot, open for reading, with what was found in it. */
export interface FileToExport {
  readonly file: FileHandle;
  readonly extents: readonly Extent[];
  readonly facts: ExportedFile;
}

export interface ExportWork {
  readonly signal: AbortSignal;
  /** Told how many bytes of the files' content were written since the last time. */
  readonly onData: (bytes: number) => void;
}

/**
 * @returns bytes written
 * @throws {BangerError} `verify_failed`: a file is not what its facts say any more; what the sink throws
 */
export async function writeExport(
  sink: ByteSink,
  manifest: ExportHeader['manifest'],
  files: readonly FileToExport[],
  work: ExportWork,
): Promise<number> {
  const hash = createHash('sha256');
  let written = 0;
  const put = async (bytes: Uint8Array): Promise<void> => {
    hash.update(bytes);
    written += bytes.length;
    await sink.write(bytes);
  };
  await put(beginning({ manifest, files: files.map(({ facts }) => facts) }));
  for (const file of files) await putFile(put, file, work);
  const digest = hash.digest();
  await sink.write(digest);
  return written + digest.length;
}

function beginning(header: ExportHeader): Uint8Array {
  const json = Buffer.from(JSON.stringify(header));
  const preamble = Buffer.alloc(PREAMBLE_BYTES);
  EXPORT_MAGIC.copy(preamble);
  preamble.writeUInt32LE(EXPORT_VERSION, 8);
  preamble.writeUInt32LE(json.length, 12);
  createHash('sha256').update(json).digest().copy(preamble, 16);
  return Buffer.concat([preamble, json]);
}

async function putFile(
  put: (bytes: Uint8Array) => Promise<void>,
  { file, extents, facts }: FileToExport,
  { signal, onData }: ExportWork,
): Promise<void> {
  const hash = new SparseHash();
  const pending: { readonly length: number; readonly stored: Promise<Uint8Array> }[] = [];
  const putOldest = async (): Promise<void> => {
    const oldest = pending.shift();
    if (oldest === undefined) return;
    await put(await oldest.stored);
    onData(oldest.length);
  };
  try {
    for await (const { offset, bytes } of runs(dataBlocks(file, facts.sizeBytes, extents, signal))) {
      hash.add(offset, bytes);
      const stored = store(offset, bytes);
      // Looked at in its turn.
      stored.catch(() => undefined);
      pending.push({ length: bytes.length, stored });
      if (pending.length >= EXTENTS_AT_ONCE) await putOldest();
    }
    while (pending.length > 0) await putOldest();
  } finally {
    await Promise.allSettled(pending.map(({ stored }) => stored));
  }
  if (hash.facts(facts.sizeBytes).sparseSha256 === facts.sparseSha256) return;
  throw new BangerError('verify_failed', `${facts.name} of the snapshot was changed while it was exported`);
}

async function store(offset: number, bytes: Uint8Array): Promise<Uint8Array> {
  const stored = await compress(bytes, ZSTD_WRITING);
  const header = Buffer.alloc(EXTENT_HEADER_BYTES);
  header.writeBigUInt64LE(BigInt(offset), 0);
  header.writeUInt32LE(bytes.length, 8);
  header.writeUInt32LE(stored.length, 12);
  return Buffer.concat([header, stored]);
}

interface Run {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Neighbouring blocks together, as far as an extent may go: it is content alone that decides where one begins. */
async function* runs(blocks: AsyncIterable<Run>): AsyncGenerator<Run, void, void> {
  let start = 0;
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const { offset, bytes } of blocks) {
    if (length > 0 && (offset !== start + length || length + bytes.length > MAX_EXTENT_BYTES)) {
      yield { offset: start, bytes: Buffer.concat(parts) };
      parts = [];
      length = 0;
    }
    if (length === 0) start = offset;
    parts.push(Uint8Array.from(bytes));
    length += bytes.length;
  }
  if (length > 0) yield { offset: start, bytes: Buffer.concat(parts) };
}
