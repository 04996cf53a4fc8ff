/** Reads the file a snapshot travels in. Whoever made it may be hostile: nothing is believed before it was checked. */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { BangerError, errorText } from '../core/errors.ts';
import { SPARSE_BLOCK_BYTES, SparseHash } from '../host/sparse-digest.ts';
import {
  damaged,
  DIGEST_BYTES,
  EXPORT_MAGIC,
  EXPORT_VERSION,
  type ExportedFile,
  type ExportHeader,
  EXTENT_HEADER_BYTES,
  EXTENTS_AT_ONCE,
  MAX_EXTENT_BYTES,
  MAX_HEADER_BYTES,
  MAX_STORED_BYTES,
  parseExportHeader,
  PREAMBLE_BYTES,
  ZSTD_READING,
} from './export-format.ts';

const decompress = promisify<Uint8Array, object, Buffer>(zstdDecompress);

interface ReadExtent {
  readonly offset: number;
  readonly length: number;
  readonly stored: Uint8Array;
}

/** In order: `header`, `file` for each file of it, `end`. */
export class ExportReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #hash = createHash('sha256');
  #held: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** @throws {BangerError} `verify_failed`; `unsupported` (another version of the format); what the source throws */
  async header(): Promise<ExportHeader> {
    const preamble = await this.#take(PREAMBLE_BYTES, 'its beginning');
    if (!preamble.subarray(0, EXPORT_MAGIC.length).equals(EXPORT_MAGIC)) {
      throw new BangerError('verify_failed', 'this is not an exported snapshot', {
        hint: 'banger vm snapshot export SNAPSHOT FILE makes one',
      });
    }
    const version = preamble.readUInt32LE(8);
    if (version !== EXPORT_VERSION) {
      throw new BangerError(
        'unsupported',
        `the exported snapshot is of version ${version}; this banger reads version ${EXPORT_VERSION}`,
      );
    }
    const length = preamble.readUInt32LE(12);
    if (length > MAX_HEADER_BYTES) throw damaged(`its header has ${length} bytes`);
    const bytes = await this.#take(length, 'its header');
    const digest = createHash('sha256').update(bytes).digest();
    if (!digest.equals(preamble.subarray(16))) throw damaged('its header is not what was written');
    return parseExportHeader(bytes);
  }

  /**
   * @param target open for writing, empty
   * @param onData told how many bytes of content have come since the last time
   * @throws {BangerError} `verify_failed`, `no_space`, `io_error`, and what the source throws
   */
  async file(facts: ExportedFile, target: FileHandle, onData: (bytes: number) => void): Promise<void> {
    await target.truncate(facts.sizeBytes);
    const hash = new SparseHash();
    const pending: { readonly extent: ReadExtent; readonly bytes: Promise<Uint8Array> }[] = [];
    const placeOldest = async (): Promise<void> => {
      const oldest = pending.shift();
      if (oldest === undefined) return;
      const { offset } = oldest.extent;
      const bytes = await oldest.bytes;
      hash.add(offset, bytes);
      await writeAll(target, bytes, offset);
      onData(bytes.length);
    };
    try {
      let came = 0;
      let from = 0;
      while (came < facts.dataBytes) {
        const extent = await this.#extent(facts, from);
        from = extent.offset + extent.length;
        came += extent.length;
        if (came > facts.dataBytes) throw damaged(`${facts.name} has more in it than it says`);
        const bytes = unpack(extent, facts.name);
        // Looked at in its turn.
        bytes.catch(() => undefined);
        pending.push({ extent, bytes });
        if (pending.length >= EXTENTS_AT_ONCE) await placeOldest();
      }
      while (pending.length > 0) await placeOldest();
    } finally {
      await Promise.allSettled(pending.map(({ bytes }) => bytes));
    }
    if (hash.facts(facts.sizeBytes).sparseSha256 !== facts.sparseSha256)
      throw damaged(`${facts.name} is not what was written`);
  }

  /** @throws {BangerError} `verify_failed` */
  async end(): Promise<void> {
    const digest = this.#hash.copy().digest();
    const said = await this.#take(DIGEST_BYTES, 'its end');
    if (!digest.equals(said)) throw damaged('its digest is another one');
    if (this.#held.length > 0 || (await this.#more())) throw damaged('something follows its end');
  }

  async #extent({ name, sizeBytes }: ExportedFile, from: number): Promise<ReadExtent> {
    const header = await this.#take(EXTENT_HEADER_BYTES, name);
    const offset = Number(header.readBigUInt64LE(0));
    const length = header.readUInt32LE(8);
    const storedLength = header.readUInt32LE(12);
    const end = offset + length;
    const isWhole =
      offset % SPARSE_BLOCK_BYTES === 0 && (length % SPARSE_BLOCK_BYTES === 0 || end === sizeBytes);
    if (!isWhole || offset < from || end > sizeBytes || length === 0 || length > MAX_EXTENT_BYTES)
      throw damaged(`${name} has ${length} bytes at ${offset}`);
    if (storedLength > MAX_STORED_BYTES) throw damaged(`${name} has ${storedLength} bytes for ${length}`);
    return { offset, length, stored: await this.#take(storedLength, name) };
  }

  async #take(count: number, what: string): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    let missing = count;
    while (missing > 0) {
      if (this.#held.length === 0 && !(await this.#more())) throw damaged(`it ends in the middle of ${what}`);
      const part = this.#held.subarray(0, missing);
      this.#held = this.#held.subarray(part.length);
      missing -= part.length;
      parts.push(part);
    }
    const bytes = Buffer.concat(parts, count);
    this.#hash.update(bytes);
    return bytes;
  }

  /** Whether there are more bytes; then they are held. */
  async #more(): Promise<boolean> {
    for (;;) {
      const next = await this.#source.next();
      if (next.done === true) return false;
      this.#held = next.value;
      if (this.#held.length > 0) return true;
    }
  }
}

async function unpack({ length, stored, offset }: ReadExtent, name: string): Promise<Uint8Array> {
  try {
    const bytes = await decompress(stored, { ...ZSTD_READING, maxOutputLength: length });
    if (bytes.length === length) return bytes;
  } catch (cause) {
    throw damaged(`${name} at ${offset}: ${errorText(cause)}`, cause);
  }
  throw damaged(`${name} has less at ${offset} than it says`);
}

async function writeAll(target: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await target.write(bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
}
