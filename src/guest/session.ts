/** A session with the agent: frames of all streams over one connection. Ends at the guest's first violation. */

import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { FRAME_TYPES, type Frame, FrameError, FrameParser, MAX_STREAMS } from '../core/channel/frame.ts';
import { BangerError, errorText } from '../core/errors.ts';
import { FrameWriter } from './frame-writer.ts';
import { GuestStream, type StreamPort } from './stream.ts';

const LAST_STREAM = 2 ** 32 - 1;

export class Session {
  /** The payload of the guest's first frame. Rejects when the session ends before. */
  readonly hello: Promise<Uint8Array>;
  /** Settles with the reason when the session is over, whoever ended it. Never rejects. */
  readonly ended: Promise<BangerError>;
  readonly #duplex: Duplex;
  readonly #writer: FrameWriter;
  readonly #parser = new FrameParser();
  readonly #streams = new Map<number, GuestStream>();
  readonly #port: StreamPort;
  readonly #hello = Promise.withResolvers<Uint8Array>();
  readonly #ended = Promise.withResolvers<BangerError>();
  #helloSeen = false;
  #nextStream = 1;
  #reason: BangerError | undefined;

  /** Takes the connection over. `rest`: bytes already read that follow the guest's preamble. */
  constructor(duplex: Duplex, rest: Uint8Array) {
    const writer = new FrameWriter(duplex);
    const streams = this.#streams;
    this.#duplex = duplex;
    this.#writer = writer;
    this.hello = this.#hello.promise;
    this.hello.catch(() => {});
    this.ended = this.#ended.promise;
    this.#port = {
      write: (type, stream, channel, payload) => writer.write(type, stream, channel, payload),
      forget: (id) => void streams.delete(id),
      get congested() {
        return writer.congested;
      },
      whenWritable: (callback) => writer.whenWritable(callback),
    };
    duplex.on('error', (error) => this.#end(errorText(error), error));
    duplex.on('end', () => this.#end('the guest closed it'));
    duplex.on('close', () => this.#end('it was closed'));
    duplex.on('data', (chunk: Buffer) => this.#receive(chunk));
    if (rest.length > 0) this.#receive(rest);
    if (duplex.destroyed || duplex.readableEnded) this.#end('it was closed');
    duplex.resume();
  }

  /** Why it ended; undefined while it lasts. */
  get reason(): BangerError | undefined {
    return this.#reason;
  }

  /** Streams open now. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /** Bytes that wait for the guest to take them. */
  get bufferedBytes(): number {
    return this.#writer.bufferedBytes;
  }

  /**
   * Opens a stream: `payload` is an operation with its parameters (payloads.ts).
   * @throws {BangerError} `channel_broken` after the end, `limit_exceeded` with 1536 streams open
   */
  open(payload: Uint8Array): GuestStream {
    if (this.#reason !== undefined) throw this.#reason;
    if (this.#streams.size >= MAX_STREAMS) {
      throw new BangerError(
        'limit_exceeded',
        `${MAX_STREAMS} commands and connections are open in this VM already`,
        {
          hint: 'wait until some of them have ended',
        },
      );
    }
    assert(this.#nextStream <= LAST_STREAM, 'stream numbers are used up');
    const stream = new GuestStream(this.#nextStream, this.#port);
    this.#nextStream++;
    this.#streams.set(stream.id, stream);
    this.#writer.write(FRAME_TYPES.open, stream.id, 0, payload);
    return stream;
  }

  /** Hangs up. Idempotent. */
  close(): void {
    this.#end('banger closed it');
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const frame of this.#parser.push(chunk)) {
        if (this.#reason !== undefined) return;
        this.#dispatch(frame);
      }
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#end(`the guest broke the protocol: ${error.message}`, error);
    }
  }

  #dispatch(frame: Frame): void {
    if (!this.#helloSeen) {
      if (frame.type !== FRAME_TYPES.hello) throw new FrameError('the first frame is no hello');
      this.#helloSeen = true;
      this.#hello.resolve(frame.payload.slice());
      return;
    }
    switch (frame.type) {
      case FRAME_TYPES.data:
      case FRAME_TYPES.eof:
      case FRAME_TYPES.window:
      case FRAME_TYPES.close:
        // A stream that is gone: the frame has crossed its CLOSE or RESET.
        this.#streams.get(frame.stream)?.receive(frame);
        return;
      default:
        throw new FrameError(`the guest sent a frame of type ${frame.type}`);
    }
  }

  #end(why: string, cause?: Error): void {
    if (this.#reason !== undefined) return;
    const reason = new BangerError('channel_broken', `the connection to the guest was lost: ${why}`, {
      cause,
    });
    this.#reason = reason;
    this.#writer.discard();
    this.#duplex.destroy();
    for (const stream of this.#streams.values()) stream.lose(why);
    this.#hello.reject(reason);
    this.#ended.resolve(reason);
  }
}
