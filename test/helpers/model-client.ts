/** A client of the second hop, as docs/agent-protocol.md ("Client streams") describes it: strict about the daemon. */

import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { type CloseResult, decodeClose } from '../../src/core/channel/close.ts';
import { ReceiveCredit, SendCredit } from '../../src/core/channel/credit.ts';
import {
  decodeU32,
  encodeFrame,
  encodeHeader,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameParser,
  type FrameType,
  MAX_PAYLOAD_BYTES,
  STDIN,
  STDOUT,
} from '../../src/core/channel/frame.ts';

export class ModelClient {
  readonly duplex: Duplex;
  readonly closed: Promise<CloseResult>;
  /** Bytes received on channel 1 and 2. */
  readonly received = [0, 0];
  /** WINDOW frames received. */
  grants = 0;
  /** The payloads, when kept. */
  readonly output: Buffer[] = [];
  readonly #keep: boolean;
  readonly #parser = new FrameParser();
  readonly #sendCredit = new SendCredit();
  readonly #receiveCredit = [new ReceiveCredit(), new ReceiveCredit()] as const;
  #wake: () => void = () => {};
  #result: CloseResult | undefined;

  constructor(duplex: Duplex, keep = true) {
    this.duplex = duplex;
    this.#keep = keep;
    duplex.on('error', () => {});
    const { promise, resolve, reject } = Promise.withResolvers<CloseResult>();
    this.closed = promise;
    promise.catch(() => {});
    duplex.on('data', (chunk: Buffer) => {
      try {
        for (const frame of this.#parser.push(chunk)) this.#receive(frame, resolve);
      } catch (error) {
        reject(error);
      }
    });
    duplex.on('close', () => reject(new Error('closed without a result')));
  }

  get sendCredit(): number {
    return this.#sendCredit.available;
  }

  send(type: FrameType, channel = 0, payload?: Uint8Array): void {
    if (!this.duplex.destroyed) this.duplex.write(encodeFrame(type, 1, channel, payload));
  }

  sendEof(): void {
    this.send(FRAME_TYPES.eof, STDIN);
  }

  /** Sends within the credit; resolves when all of it has been written. */
  async sendInput(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length && this.#result === undefined) {
      const end = offset + Math.min(MAX_PAYLOAD_BYTES, this.#sendCredit.available, bytes.length - offset);
      if (end === offset) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      this.#sendCredit.use(end - offset);
      this.duplex.write(encodeHeader(FRAME_TYPES.data, 1, STDIN, end - offset));
      this.duplex.write(bytes.subarray(offset, end));
      offset = end;
    }
  }

  #receive(frame: Frame, resolve: (result: CloseResult) => void): void {
    assert.equal(frame.stream, 1);
    assert.equal(this.#result, undefined, 'nothing comes after CLOSE');
    if (frame.type === FRAME_TYPES.close) {
      this.#result = decodeClose(frame.payload);
      this.#wake();
      resolve(this.#result);
      this.duplex.end();
    } else if (frame.type === FRAME_TYPES.window) {
      assert.equal(frame.channel, STDIN);
      this.#sendCredit.add(decodeU32(frame.payload));
      this.grants++;
      this.#wake();
    } else if (frame.type === FRAME_TYPES.data) {
      assert(frame.channel !== STDIN);
      const index = frame.channel === STDOUT ? 0 : 1;
      const credit = this.#receiveCredit[index];
      credit.use(frame.payload.length);
      this.received[index] = (this.received[index] ?? 0) + frame.payload.length;
      if (this.#keep) this.output.push(Buffer.from(frame.payload));
      const grant = credit.take(frame.payload.length);
      if (grant === 0) return;
      credit.grant(grant);
      this.send(FRAME_TYPES.window, frame.channel, encodeU32(grant));
    } else assert.equal(frame.type, FRAME_TYPES.eof);
  }
}
