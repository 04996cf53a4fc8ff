/** Plays the agent at the other end of a connection, in process: strict about what the host may send. */

import assert from 'node:assert/strict';
import { type Duplex, duplexPair } from 'node:stream';
import { type CloseResult, encodeClose } from '../../src/core/channel/close.ts';
import { ReceiveCredit, SendCredit } from '../../src/core/channel/credit.ts';
import {
  decodeU32,
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameParser,
  type FrameType,
  MAX_PAYLOAD_BYTES,
  PROTOCOL_VERSION,
  STDIN,
  STDOUT,
} from '../../src/core/channel/frame.ts';
import { encodePreamble, PreambleScanner } from '../../src/core/channel/preamble.ts';

export const FAKE_HELLO = {
  agent: '0.1.0',
  bootId: '6f1c2d3e-0000-4000-8000-000000000001',
  configured: false,
  kernel: '6.1.0-fake',
  mounted: true,
  error: null,
};

export interface FakeGuestOptions {
  readonly hello?: unknown;
  readonly version?: number;
  /** Sent before the answer to the host's preamble. */
  readonly leftovers?: Uint8Array;
  /** Called for every frame from the host. */
  readonly onFrame?: (frame: Frame, guest: FakeGuest) => void;
}

export class FakeGuest {
  /** The host's side of the connection. */
  readonly hostSide: Duplex;
  readonly #side: Duplex;
  readonly #options: FakeGuestOptions;
  readonly #scanner = new PreambleScanner();
  #parser: FrameParser | undefined;
  readonly frames: Frame[] = [];
  /** The host has hung up. */
  readonly hungUp: Promise<void>;

  constructor(options: FakeGuestOptions = {}) {
    const [hostSide, side] = duplexPair();
    this.hostSide = hostSide;
    this.#side = side;
    this.#options = options;
    side.on('data', (chunk: Buffer) => this.#receive(chunk));
    side.on('error', () => {});
    this.hungUp = new Promise((resolve) => {
      side.on('end', resolve).on('close', resolve);
      hostSide.on('close', resolve);
    });
  }

  get side(): Duplex {
    return this.#side;
  }

  write(bytes: Uint8Array): void {
    if (!this.#side.destroyed && !this.hostSide.destroyed) this.#side.write(bytes);
  }

  send(type: FrameType, stream: number, channel = 0, payload?: Uint8Array): void {
    this.write(encodeFrame(type, stream, channel, payload));
  }

  data(stream: number, channel: number, payload: Uint8Array | string): void {
    const bytes = Buffer.from(payload);
    for (let from = 0; from < bytes.length; from += MAX_PAYLOAD_BYTES) {
      this.send(FRAME_TYPES.data, stream, channel, bytes.subarray(from, from + MAX_PAYLOAD_BYTES));
    }
  }

  close(stream: number, result: CloseResult): void {
    this.send(FRAME_TYPES.close, stream, 0, encodeClose(result));
  }

  #receive(chunk: Uint8Array): void {
    if (this.#parser !== undefined) return this.#frames(chunk);
    const found = this.#scanner.push(chunk);
    if (found === undefined) return;
    this.#parser = new FrameParser();
    if (this.#options.leftovers !== undefined) this.write(this.#options.leftovers);
    this.write(encodePreamble(found.nonce, this.#options.version ?? PROTOCOL_VERSION));
    const hello = this.#options.hello ?? FAKE_HELLO;
    this.send(
      FRAME_TYPES.hello,
      0,
      0,
      Buffer.from(typeof hello === 'string' ? hello : JSON.stringify(hello)),
    );
    if (found.rest.length > 0) this.#frames(found.rest);
  }

  #frames(chunk: Uint8Array): void {
    assert(this.#parser !== undefined);
    for (const frame of this.#parser.push(chunk)) {
      this.frames.push(frame);
      this.#options.onFrame?.(frame, this);
    }
  }
}

/** A guest in which every command is `cat`: exact about credit in both directions. */
export function catGuest(): FakeGuest {
  const cats = new Map<number, CatProcess>();
  return new FakeGuest({
    onFrame(frame, guest) {
      if (frame.type === FRAME_TYPES.open) cats.set(frame.stream, new CatProcess(guest, frame.stream));
      else cats.get(frame.stream)?.receive(frame);
    },
  });
}

class CatProcess {
  readonly #guest: FakeGuest;
  readonly #stream: number;
  readonly #input = new ReceiveCredit();
  readonly #output = new SendCredit();
  #held: Uint8Array[] = [];
  #ending = false;
  #over = false;

  constructor(guest: FakeGuest, stream: number) {
    this.#guest = guest;
    this.#stream = stream;
  }

  receive(frame: Frame): void {
    if (this.#over) return;
    if (frame.type === FRAME_TYPES.data) {
      this.#input.use(frame.payload.length);
      this.#held.push(frame.payload);
    } else if (frame.type === FRAME_TYPES.window) this.#output.add(decodeU32(frame.payload));
    else if (frame.type === FRAME_TYPES.eof) this.#ending = true;
    else if (frame.type === FRAME_TYPES.reset) return this.#end({ kind: 'signaled', signal: 1 });
    this.#pump();
  }

  #pump(): void {
    while (this.#held.length > 0 && this.#output.available > 0) {
      const first = this.#held[0] as Uint8Array;
      const part = first.subarray(0, Math.min(this.#output.available, MAX_PAYLOAD_BYTES));
      this.#output.use(part.length);
      this.#guest.data(this.#stream, STDOUT, part);
      const grant = this.#input.take(part.length);
      if (grant > 0) {
        this.#input.grant(grant);
        this.#guest.send(FRAME_TYPES.window, this.#stream, STDIN, encodeU32(grant));
      }
      if (part.length === first.length) this.#held.shift();
      else this.#held[0] = first.subarray(part.length);
    }
    if (this.#ending && this.#held.length === 0) this.#end({ kind: 'done', status: 0 });
  }

  #end(result: CloseResult): void {
    this.#over = true;
    this.#guest.close(this.#stream, result);
  }
}
