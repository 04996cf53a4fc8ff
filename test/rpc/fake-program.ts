/** The daemon's side of a client stream, played by the test: credit is enforced, so a client that overruns it fails the test. */

import type { Socket } from 'node:net';
import { type CloseResult, encodeClose } from '../../src/core/channel/close.ts';
import { ReceiveCredit, SendCredit } from '../../src/core/channel/credit.ts';
import {
  decodeU32,
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameParser,
  MAX_PAYLOAD_BYTES,
  STDERR,
  STDIN,
  STDOUT,
} from '../../src/core/channel/frame.ts';

export type ProgramEvent =
  | { readonly kind: 'signal'; readonly number: number }
  | { readonly kind: 'resize'; readonly rows: number; readonly columns: number }
  | { readonly kind: 'reset' }
  | { readonly kind: 'eof' }
  | { readonly kind: 'hangup' };

export class FakeProgram {
  readonly socket: Socket;
  readonly events: ProgramEvent[] = [];
  readonly #parser = new FrameParser();
  readonly #stdin = new ReceiveCredit();
  readonly #credit = { [STDOUT]: new SendCredit(), [STDERR]: new SendCredit() };
  /** Input that came before anyone asked for it: it may arrive together with the ticket. */
  readonly #early: Uint8Array[] = [];
  #onInput: (chunk: Uint8Array) => void = (chunk) => this.#early.push(chunk);
  #wake: (() => void)[] = [];
  #closed = false;
  /** Set when the client broke the protocol. */
  failure: Error | undefined;
  receivedBytes = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const frame of this.#parser.push(chunk)) this.#onFrame(frame);
      } catch (error) {
        this.failure = error as Error;
        socket.destroy();
      }
      this.#wakeAll();
    });
    socket.on('close', () => {
      if (!this.#closed) this.events.push({ kind: 'hangup' });
      this.#wakeAll();
    });
  }

  /** What to do with stdin. Credit is given back by `grant`. */
  onInput(listener: (chunk: Uint8Array) => void): void {
    this.#onInput = listener;
    for (const chunk of this.#early.splice(0)) listener(chunk);
  }

  grant(bytes: number): void {
    const grant = this.#stdin.take(bytes);
    if (grant === 0) return;
    this.#stdin.grant(grant);
    this.raw(encodeFrame(FRAME_TYPES.window, 1, STDIN, encodeU32(grant)));
  }

  available(channel: 1 | 2): number {
    return this.#credit[channel].available;
  }

  /** Resolves once the client gave credit for all of it. */
  async write(channel: 1 | 2, bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length) {
      const credit = this.#credit[channel];
      const count = Math.min(bytes.length - offset, credit.available, MAX_PAYLOAD_BYTES);
      if (count === 0) {
        if (this.socket.destroyed) throw new Error('the client hung up');
        await this.next();
        continue;
      }
      credit.use(count);
      this.raw(encodeFrame(FRAME_TYPES.data, 1, channel, bytes.subarray(offset, offset + count)));
      offset += count;
    }
  }

  close(result: CloseResult): void {
    this.#closed = true;
    this.socket.end(encodeFrame(FRAME_TYPES.close, 1, 0, encodeClose(result)));
  }

  exit(status: number): void {
    this.close({ kind: 'done', status });
  }

  raw(bytes: Uint8Array): void {
    if (!this.socket.destroyed && !this.#closed) this.socket.write(bytes);
  }

  /** Something came. */
  next(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  /** Resolves with the first event of a kind, once it is there. */
  async event<K extends ProgramEvent['kind']>(
    kind: K,
    index = 0,
  ): Promise<Extract<ProgramEvent, { kind: K }>> {
    for (;;) {
      const found = this.events.filter((event) => event.kind === kind)[index];
      if (found !== undefined) return found as Extract<ProgramEvent, { kind: K }>;
      await this.next();
    }
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #onFrame(frame: Frame): void {
    if (frame.stream !== 1) throw new Error(`stream ${frame.stream}`);
    const view = new DataView(frame.payload.buffer, frame.payload.byteOffset, frame.payload.byteLength);
    switch (frame.type) {
      case FRAME_TYPES.data:
        if (frame.channel !== STDIN) throw new Error(`DATA on channel ${frame.channel}`);
        this.#stdin.use(frame.payload.length);
        this.receivedBytes += frame.payload.length;
        this.#onInput(frame.payload);
        break;
      case FRAME_TYPES.eof:
        this.events.push({ kind: 'eof' });
        break;
      case FRAME_TYPES.window:
        this.#grantOutput(frame);
        break;
      case FRAME_TYPES.signal:
        this.events.push({ kind: 'signal', number: decodeU32(frame.payload) });
        break;
      case FRAME_TYPES.resize:
        this.events.push({ kind: 'resize', rows: view.getUint16(0, true), columns: view.getUint16(2, true) });
        break;
      case FRAME_TYPES.reset:
        this.events.push({ kind: 'reset' });
        break;
      default:
        throw new Error(`frame type ${frame.type} from a client`);
    }
  }

  #grantOutput(frame: Frame): void {
    if (frame.channel !== STDOUT && frame.channel !== STDERR) throw new Error(`WINDOW ${frame.channel}`);
    const credit = this.#credit[frame.channel];
    credit.add(decodeU32(frame.payload));
    if (credit.available > 512 * 1024) throw new Error('the client granted bytes it has not received');
  }
}
