/** Puts the pages of a guest's memory into a file, in few large writes, and leaves holes where they are zero. */

import type { FileHandle } from 'node:fs/promises';
import { PAGE_BYTES } from './stream-bytes.ts';

const BUFFER_BYTES = 1024 * 1024;
/** What may come between two calls of `settle`. */
export const MAX_CHUNK_BYTES = 64 * 1024;

/** What became of a page: the file begins as one hole. */
const PAGE = { hole: 0, data: 1, zero: 2 } as const;

interface Extent {
  readonly position: number;
  readonly start: number;
  length: number;
}

interface Batch {
  readonly buffer: Buffer;
  readonly extents: Extent[];
  used: number;
}

export class MemoryWriter {
  readonly #file: FileHandle;
  readonly #pages: Uint8Array;
  #filling: Batch = newBatch();
  #spare: Batch = newBatch();
  /** The write that is under way; it never rejects: the error is kept. */
  #writing: Promise<void> = Promise.resolve();
  #error: unknown;

  /** The file has `sizeBytes`, all of them a hole. */
  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file;
    this.#pages = new Uint8Array(Math.ceil(sizeBytes / PAGE_BYTES));
  }

  /** Copies bytes that lie in one page; they are in the file after `finish`. */
  write(position: number, chunk: Buffer, start: number, end: number): void {
    this.#pages[Math.floor(position / PAGE_BYTES)] = PAGE.data;
    const batch = this.#filling;
    const last = batch.extents.at(-1);
    chunk.copy(batch.buffer, batch.used, start, end);
    if (last !== undefined && last.position + last.length === position) last.length += end - start;
    else batch.extents.push({ position, start: batch.used, length: end - start });
    batch.used += end - start;
  }

  zeroPage(position: number): void {
    const page = position / PAGE_BYTES;
    if (this.#pages[page] === PAGE.data) this.#pages[page] = PAGE.zero;
  }

  /** To be awaited after at most MAX_CHUNK_BYTES. Waits while the file is slower than what comes. */
  async settle(): Promise<void> {
    if (this.#filling.used + MAX_CHUNK_BYTES > BUFFER_BYTES) await this.#swap();
  }

  /** Everything is in the file. */
  async finish(): Promise<void> {
    await this.#swap();
    await this.idle();
    this.#throwError();
    await this.#writeZeros();
  }

  /** Waits until nothing is being written any more. Never rejects. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  async #swap(): Promise<void> {
    await this.#writing;
    this.#throwError();
    const full = this.#filling;
    this.#filling = this.#spare;
    this.#spare = full;
    this.#writing = this.#writeOut(full).catch((error: unknown) => {
      this.#error = error;
    });
  }

  #throwError(): void {
    if (this.#error !== undefined) throw this.#error;
  }

  async #writeOut(batch: Batch): Promise<void> {
    for (const { position, start, length } of batch.extents) {
      await this.#writeAll(batch.buffer, start, length, position);
    }
    batch.extents.length = 0;
    batch.used = 0;
  }

  async #writeAll(buffer: Buffer, start: number, length: number, position: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const { bytesWritten } = await this.#file.write(buffer, start + done, length - done, position + done);
      done += bytesWritten;
    }
  }

  /** Pages that came as data first and as zeros later. */
  async #writeZeros(): Promise<void> {
    const zeros = Buffer.alloc(BUFFER_BYTES);
    const maxPages = BUFFER_BYTES / PAGE_BYTES;
    for (let first = this.#pages.indexOf(PAGE.zero); first !== -1; ) {
      let end = first + 1;
      while (end < first + maxPages && this.#pages[end] === PAGE.zero) end += 1;
      await this.#writeAll(zeros, 0, (end - first) * PAGE_BYTES, first * PAGE_BYTES);
      first = this.#pages.indexOf(PAGE.zero, end);
    }
  }
}

function newBatch(): Batch {
  return { buffer: Buffer.allocUnsafe(BUFFER_BYTES), extents: [], used: 0 };
}
