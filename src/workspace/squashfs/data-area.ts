/** The part of an image that holds file contents: whole blocks, and fragments that small files share. */

import { writeSync } from 'node:fs';
import { BangerError } from '../../core/errors.ts';
import { BLOCK_BYTES, MetadataTable, SUPERBLOCK_BYTES, UNCOMPRESSED_DATA } from './format.ts';

/** Where a file's bytes lie. */
export interface StoredData {
  readonly size: number;
  /** First byte of its blocks in the image; its blocks follow one another. Unused for a file in a fragment. */
  readonly start: number;
  readonly fragment: { readonly index: number; readonly offset: number } | undefined;
}

/** Fills `buffer` from the file's next bytes; fewer than its length only at the file's end. */
export type ReadInto = (buffer: Buffer) => number;

const WINDOW_BLOCKS = 32;

export class DataArea {
  readonly #fd: number;
  readonly #limitBytes: number;
  /** Bytes of the image from #windowAt on that are not written yet. */
  readonly #window = Buffer.allocUnsafeSlow(WINDOW_BLOCKS * BLOCK_BYTES);
  #windowAt = SUPERBLOCK_BYTES;
  #windowUsed = 0;
  readonly #fragment = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  #fragmentUsed = 0;
  readonly #fragmentTable = new MetadataTable();
  #fragments = 0;

  /** @param limitBytes size of the file behind `fd`, which must not grow */
  constructor(fd: number, limitBytes: number) {
    this.#fd = fd;
    this.#limitBytes = limitBytes;
  }

  get fragments(): number {
    return this.#fragments;
  }

  get fragmentTable(): MetadataTable {
    return this.#fragmentTable;
  }

  /** Where the next byte goes. */
  get position(): number {
    return this.#windowAt + this.#windowUsed;
  }

  /**
   * Stores a file of `size` bytes. Undefined, and nothing stored, when fewer came.
   * @throws {BangerError} `limit_exceeded` (the image is full); errors of the file system as they come
   */
  store(size: number, read: ReadInto): StoredData | undefined {
    if (size === 0) return { size, start: 0, fragment: undefined };
    return size < BLOCK_BYTES ? this.#storeInFragment(size, read) : this.#storeInBlocks(size, read);
  }

  /** Appends bytes of a table. */
  append(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, this.#room());
      bytes.copy(this.#window, this.#windowUsed, at, at + length);
      this.#windowUsed += length;
      at += length;
    }
  }

  /** Writes what is pending: after this the data area is complete and `append` goes behind it. */
  flushFragment(): void {
    if (this.#fragmentUsed === 0) return;
    const entry = this.#fragmentTable.reserve(16);
    entry.writeBigUInt64LE(BigInt(this.position), 0);
    entry.writeUInt32LE(this.#fragmentUsed | UNCOMPRESSED_DATA, 8);
    this.append(this.#fragment.subarray(0, this.#fragmentUsed));
    this.#fragments += 1;
    this.#fragmentUsed = 0;
  }

  /** Takes back the file stored last, which turned out to have changed while it was read. */
  discard(stored: StoredData): void {
    if (stored.fragment !== undefined) this.#fragmentUsed = stored.fragment.offset;
    else if (stored.size > 0) this.#rewind(stored.start);
  }

  writeWindow(): void {
    writeFully(this.#fd, this.#window.subarray(0, this.#windowUsed), this.#windowAt);
    this.#windowAt += this.#windowUsed;
    this.#windowUsed = 0;
  }

  #storeInFragment(size: number, read: ReadInto): StoredData | undefined {
    if (this.#fragmentUsed + size > BLOCK_BYTES) this.flushFragment();
    const offset = this.#fragmentUsed;
    if (!readFully(read, this.#fragment.subarray(offset, offset + size))) return undefined;
    this.#fragmentUsed += size;
    return { size, start: 0, fragment: { index: this.#fragments, offset } };
  }

  #storeInBlocks(size: number, read: ReadInto): StoredData | undefined {
    const start = this.position;
    for (let left = size; left > 0; ) {
      const length = Math.min(left, this.#room());
      if (!readFully(read, this.#window.subarray(this.#windowUsed, this.#windowUsed + length))) {
        this.#rewind(start);
        return undefined;
      }
      this.#windowUsed += length;
      left -= length;
    }
    return { size, start, fragment: undefined };
  }

  /** Free bytes in the window, at least one. */
  #room(): number {
    if (this.#windowUsed === this.#window.length) this.writeWindow();
    const room = Math.min(this.#window.length - this.#windowUsed, this.#limitBytes - this.position);
    if (room > 0) return room;
    throw new BangerError('limit_exceeded', `the repository does not fit on the transfer disk`, {
      hint: `it holds ${this.#limitBytes} bytes`,
    });
  }

  #rewind(position: number): void {
    if (position >= this.#windowAt) {
      this.#windowUsed = position - this.#windowAt;
      return;
    }
    this.#windowAt = position;
    this.#windowUsed = 0;
  }
}

function readFully(read: ReadInto, buffer: Buffer): boolean {
  for (let at = 0; at < buffer.length; ) {
    const length = read(buffer.subarray(at));
    if (length === 0) return false;
    at += length;
  }
  return true;
}

export function writeFully(fd: number, bytes: Buffer, position: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, position + at);
}
