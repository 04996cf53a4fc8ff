/** Writes the state of a machine's devices to a file, within a limit, and digests it on the way. */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { MAX_STATE_BYTES } from '../frozen-files.ts';

export interface WrittenState {
  readonly sizeBytes: number;
  /** Hex. */
  readonly sha256: string;
}

export class StateWriter {
  readonly #file: FileHandle;
  readonly #maxBytes: number;
  readonly #hash = createHash('sha256');
  #waiting: Buffer[] = [];
  #sizeBytes = 0;

  constructor(file: FileHandle, maxBytes = MAX_STATE_BYTES) {
    this.#file = file;
    this.#maxBytes = maxBytes;
  }

  /** Copies the bytes. @throws {BangerError} `limit_exceeded` */
  write(chunk: Buffer, start: number, end: number): void {
    this.#sizeBytes += end - start;
    if (this.#sizeBytes > this.#maxBytes) {
      throw new BangerError('limit_exceeded', `the state is larger than ${this.#maxBytes} bytes`);
    }
    this.#waiting.push(Buffer.from(chunk.subarray(start, end)));
  }

  /** Everything so far is in the file. */
  async settle(): Promise<void> {
    if (this.#waiting.length === 0) return;
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#hash.update(bytes);
    await this.#file.writeFile(bytes);
  }

  /** Once, after everything has been written. */
  async finish(): Promise<WrittenState> {
    await this.settle();
    return { sizeBytes: this.#sizeBytes, sha256: this.#hash.digest('hex') };
  }
}
