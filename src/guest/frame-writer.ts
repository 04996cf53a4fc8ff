/** The sending side of a connection that carries frames: batches what one turn of the loop writes, and counts what waits. */

import type { Writable } from 'node:stream';
import { encodeHeader, type FrameType } from '../core/channel/frame.ts';
import { ByteQueue } from './byte-queue.ts';

/** As much is handed to the socket at once: more would only move the queue from here to there. */
const IN_FLIGHT_BYTES = 128 * 1024;
/** From here on the one who feeds this writer should stop reading its own source. */
const CONGESTED_BYTES = 256 * 1024;

export class FrameWriter {
  readonly #socket: Writable;
  readonly #queue = new ByteQueue();
  #waiting: (() => void)[] = [];
  #scheduled = false;
  #ending = false;

  constructor(socket: Writable) {
    this.#socket = socket;
    socket.on('drain', () => this.#flush());
  }

  /** Bytes written here that the kernel has not taken yet. */
  get bufferedBytes(): number {
    return this.#queue.bytes + this.#socket.writableLength;
  }

  get congested(): boolean {
    return this.bufferedBytes >= CONGESTED_BYTES;
  }

  /** Queues a frame. Its payload must not be changed afterwards: a long one is not copied. */
  write(type: FrameType, stream: number, channel: number, payload?: Uint8Array): void {
    if (this.#ending || this.#socket.destroyed) return;
    this.#queue.push(encodeHeader(type, stream, channel, payload?.length ?? 0));
    if (payload !== undefined && payload.length > 0) this.#queue.push(payload);
    this.#schedule();
  }

  /** Calls back once, when it is no longer congested; never when the connection is lost first. */
  whenWritable(callback: () => void): void {
    this.#waiting.push(callback);
    this.#schedule();
  }

  /** Ends the connection after what is queued; later writes are ignored. */
  end(): void {
    this.#ending = true;
    this.#schedule();
  }

  /** Drops what is queued. */
  discard(): void {
    this.#queue.clear();
    this.#waiting = [];
    this.#ending = true;
  }

  /** One turn's frames leave in one system call. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const socket = this.#socket;
    if (socket.destroyed) return this.discard();
    socket.cork();
    while (!socket.writableNeedDrain || socket.writableLength < IN_FLIGHT_BYTES) {
      const bytes = this.#queue.shift();
      if (bytes === undefined) break;
      socket.write(bytes);
    }
    socket.uncork();
    if (this.#ending && this.#queue.bytes === 0 && !socket.writableEnded) socket.end();
    if (this.#waiting.length === 0 || this.congested) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) callback();
  }
}
