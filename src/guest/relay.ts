/**
 * Joins a client's connection to a stream of the guest (docs/agent-protocol.md, "Client streams"): the daemon's hot path.
 * Frames pass as they are, with another stream number; credit is end to end, so what waits here is bounded by the windows.
 */

import type { Duplex } from 'node:stream';
import { encodeClose, ERRNO } from '../core/channel/close.ts';
import { encodeU32, FRAME_TYPES, type Frame, FrameError, FrameParser, STDIN } from '../core/channel/frame.ts';
import { FrameWriter } from './frame-writer.ts';
import type { GuestStream, StreamResult } from './stream.ts';

/** The number of the one stream a client's connection carries. */
export const CLIENT_STREAM = 1;
/** How long a client may take to close its side once it has been sent everything. */
const LINGER_MS = 5000;

/**
 * Runs until both sides are done: the guest has closed the stream and the client's connection is closed. Never rejects.
 * The stream must be fresh (no sink attached). Bytes of frames already read from the client: `client.unshift` them first.
 */
export function relay(stream: GuestStream, client: Duplex): Promise<StreamResult> {
  return new Relay(stream, client).run();
}

class Relay {
  readonly #stream: GuestStream;
  readonly #client: Duplex;
  readonly #writer: FrameWriter;
  readonly #parser = new FrameParser();
  /** Nothing more is passed to the client: it has its CLOSE or is gone. */
  #answered = false;
  #unsentCredit = 0;

  constructor(stream: GuestStream, client: Duplex) {
    this.#stream = stream;
    this.#client = client;
    this.#writer = new FrameWriter(client);
  }

  async run(): Promise<StreamResult> {
    const client = this.#client;
    const clientGone = new Promise<void>((resolve) => {
      client.once('close', () => {
        this.#hangUp();
        resolve();
      });
      if (client.closed) resolve();
    });
    client.on('error', () => this.#hangUp());
    client.on('end', () => this.#hangUp());
    client.on('finish', () => this.#linger());
    client.on('data', (chunk: Buffer) => this.#fromClient(chunk));
    if (client.destroyed || client.readableEnded) this.#hangUp();
    this.#stream.attach({
      data: (frame) => this.#toClient(frame),
      eof: (channel) => this.#writer.write(FRAME_TYPES.eof, CLIENT_STREAM, channel),
      credit: (bytes) => this.#passCredit(bytes),
      closed: (result) => this.#answer(result),
    });
    const result = await this.#stream.result;
    await clientGone;
    return result;
  }

  #toClient(frame: Frame): void {
    this.#writer.write(FRAME_TYPES.data, CLIENT_STREAM, frame.channel, frame.payload);
  }

  /** The guest may grant as often as it likes: towards a client that does not read, grants are added up. */
  #passCredit(bytes: number): void {
    const waitsAlready = this.#unsentCredit > 0;
    this.#unsentCredit += bytes;
    if (waitsAlready || bytes === 0) return;
    if (this.#writer.congested) this.#writer.whenWritable(() => this.#sendCredit());
    else this.#sendCredit();
  }

  #sendCredit(): void {
    const payload = encodeU32(this.#unsentCredit);
    this.#unsentCredit = 0;
    this.#writer.write(FRAME_TYPES.window, CLIENT_STREAM, STDIN, payload);
  }

  #fromClient(chunk: Uint8Array): void {
    if (this.#answered) return;
    try {
      for (const frame of this.#parser.push(chunk)) {
        if (frame.stream !== CLIENT_STREAM) throw new FrameError(`the client used stream ${frame.stream}`);
        this.#stream.forward(frame);
      }
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#stream.reset();
      this.#answer({ kind: 'failed', errno: ERRNO.EPROTO, text: `protocol: ${error.message}` });
    }
    if (!this.#stream.congested) return;
    this.#client.pause();
    this.#stream.whenWritable(() => this.#client.resume());
  }

  /** The last frame a client gets; then the connection is ended. */
  #answer(result: StreamResult): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#writer.write(FRAME_TYPES.close, CLIENT_STREAM, 0, encodeClose(result));
    this.#writer.end();
    this.#client.resume();
  }

  #hangUp(): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#stream.reset();
    this.#writer.discard();
    this.#client.destroy();
  }

  #linger(): void {
    const timer = setTimeout(() => this.#client.destroy(), LINGER_MS);
    this.#client.once('close', () => clearTimeout(timer));
  }
}
