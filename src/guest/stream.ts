/** One stream of a session: an operation in the guest, its bytes, its credit, its end. */

import assert from 'node:assert/strict';
import { type CloseResult, decodeClose, ERRNO } from '../core/channel/close.ts';
import { ReceiveCredit, SendCredit } from '../core/channel/credit.ts';
import {
  decodeU32,
  encodeHeader,
  encodeSize,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameError,
  FrameParser,
  type FrameType,
  INITIAL_WINDOW_BYTES,
  MAX_PAYLOAD_BYTES,
  STDERR,
  STDIN,
  STDOUT,
} from '../core/channel/frame.ts';
import { ByteQueue } from './byte-queue.ts';

const MAX_SIGNAL = 64;

/** Takes what the guest sends on a stream. Called synchronously, in the order of arrival; must not throw. */
export interface StreamSink {
  /** A DATA frame on channel 1 or 2. Grant credit for its payload when it has been consumed. */
  data(frame: Frame): void;
  /** No more DATA on this channel. */
  eof(channel: number): void;
  /** So many bytes more may be sent on channel 0. */
  credit(bytes: number): void;
  /** The end; nothing is called after it. */
  closed(result: CloseResult): void;
}

/** What a stream needs of its session. */
export interface StreamPort {
  write(type: FrameType, stream: number, channel: number, payload?: Uint8Array): void;
  forget(id: number): void;
  readonly congested: boolean;
  whenWritable(callback: () => void): void;
}

export type StreamResult = CloseResult;
type OutputChannel = typeof STDOUT | typeof STDERR;

export class GuestStream {
  readonly id: number;
  /**
   * How it ended. Never rejects: a lost channel is a *failed* result whose text begins with `channel`.
   */
  readonly result: Promise<StreamResult>;
  readonly #port: StreamPort;
  readonly #resolve: (result: StreamResult) => void;
  readonly #sendCredit = new SendCredit();
  readonly #receiveCredit = [new ReceiveCredit(), new ReceiveCredit()] as const;
  readonly #receivedEof = [false, false];
  /** Frames that came before anyone was attached: bounded by the windows. */
  readonly #early = new ByteQueue();
  #sink: StreamSink | undefined;
  #ended: StreamResult | undefined;
  #sentEof = false;
  #isReset = false;

  constructor(id: number, port: StreamPort) {
    const { promise, resolve } = Promise.withResolvers<StreamResult>();
    this.id = id;
    this.result = promise;
    this.#resolve = resolve;
    this.#port = port;
  }

  /** Bytes that may be sent on channel 0 now. */
  get sendCredit(): number {
    return this.#sendCredit.available;
  }

  /** The session's connection is full: stop reading the source of what you send, go on at `whenWritable`. */
  get congested(): boolean {
    return this.#port.congested;
  }

  whenWritable(callback: () => void): void {
    this.#port.whenWritable(callback);
  }

  /** Hands over what has come so far and all that will come. Once per stream. */
  attach(sink: StreamSink): void {
    assert(this.#sink === undefined, 'a stream has one sink');
    this.#sink = sink;
    const granted = this.#sendCredit.available - INITIAL_WINDOW_BYTES;
    if (granted > 0) sink.credit(granted);
    const parser = new FrameParser();
    for (let bytes = this.#early.shift(); bytes !== undefined; bytes = this.#early.shift()) {
      for (const frame of parser.push(bytes)) this.#deliver(sink, frame);
    }
    if (this.#ended !== undefined) sink.closed(this.#ended);
  }

  /** Sends bytes to the program's standard input: not more than the credit, not after `sendEof`. Not to be changed afterwards. */
  sendData(payload: Uint8Array): void {
    assert(!this.#sentEof, 'DATA after EOF');
    if (this.#isOver()) return;
    this.#sendCredit.use(payload.length);
    for (let from = 0; from < payload.length; from += MAX_PAYLOAD_BYTES) {
      const part = payload.subarray(from, from + MAX_PAYLOAD_BYTES);
      this.#port.write(FRAME_TYPES.data, this.id, STDIN, part);
    }
  }

  /** The end of the standard input. Idempotent. */
  sendEof(): void {
    if (this.#sentEof || this.#isOver()) return;
    this.#sentEof = true;
    this.#port.write(FRAME_TYPES.eof, this.id, STDIN);
  }

  /** Renews the guest's credit for bytes consumed. */
  grant(channel: OutputChannel, bytes: number): void {
    if (this.#isOver()) return;
    this.#creditOf(channel).grant(bytes);
    this.#port.write(FRAME_TYPES.window, this.id, channel, encodeU32(bytes));
  }

  /** Counts bytes as consumed and renews the credit when half the window is used. */
  consumed(channel: OutputChannel, bytes: number): void {
    const grant = this.#creditOf(channel).take(bytes);
    if (grant > 0 && !this.#receivedEof[channel - 1]) this.grant(channel, grant);
  }

  /** Sends a signal (1 to 64) to the program's process group. */
  signal(number: number): void {
    assert(number >= 1 && number <= MAX_SIGNAL, `signal ${number}`);
    if (!this.#isOver()) this.#port.write(FRAME_TYPES.signal, this.id, 0, encodeU32(number));
  }

  resize(rows: number, columns: number): void {
    if (this.#isOver()) return;
    this.#port.write(FRAME_TYPES.resize, this.id, 0, encodeSize(rows, columns));
  }

  /** Gives the stream up: what still comes is dropped, `closed` and `result` still tell the end. Idempotent. */
  reset(): void {
    if (this.#isOver()) return;
    this.#isReset = true;
    this.#early.clear();
    this.#port.write(FRAME_TYPES.reset, this.id, 0);
  }

  /**
   * Passes on a client's frame under this stream's number.
   * @throws {FrameError} a frame that a client may not send, or not now
   */
  forward(frame: Frame): void {
    if (this.#isOver()) return;
    switch (frame.type) {
      case FRAME_TYPES.data:
      case FRAME_TYPES.eof:
        if (frame.channel !== STDIN) throw new FrameError(`the client wrote to channel ${frame.channel}`);
        if (this.#sentEof) throw new FrameError('the client wrote after its end of file');
        this.#sendCredit.use(frame.payload.length);
        this.#sentEof = frame.type === FRAME_TYPES.eof;
        break;
      case FRAME_TYPES.window:
        this.#creditOf(frame.channel).grant(decodeU32(frame.payload));
        break;
      case FRAME_TYPES.signal:
        checkSignal(decodeU32(frame.payload));
        break;
      case FRAME_TYPES.resize:
        break;
      case FRAME_TYPES.reset:
        return this.reset();
      default:
        throw new FrameError(`the client sent a frame of type ${frame.type}`);
    }
    this.#port.write(frame.type, this.id, frame.channel, frame.payload);
  }

  /**
   * Takes a frame from the guest. For the session.
   * @throws {FrameError} the guest broke the protocol
   */
  receive(frame: Frame): void {
    switch (frame.type) {
      case FRAME_TYPES.data:
      case FRAME_TYPES.eof:
        this.#receiveOutput(frame);
        return;
      case FRAME_TYPES.window:
        if (frame.channel !== STDIN) throw new FrameError(`the guest granted channel ${frame.channel}`);
        this.#sendCredit.add(decodeU32(frame.payload));
        this.#sink?.credit(decodeU32(frame.payload));
        return;
      case FRAME_TYPES.close:
        this.#finish(decodeClose(frame.payload));
        return;
      default:
        throw new FrameError(`the guest sent a frame of type ${frame.type}`);
    }
  }

  /** The session ended under it. For the session. */
  lose(reason: string): void {
    this.#finish({ kind: 'failed', errno: ERRNO.ECONNRESET, text: `channel: ${reason}` });
  }

  #receiveOutput(frame: Frame): void {
    const credit = this.#creditOf(frame.channel);
    const index = frame.channel - 1;
    if (this.#receivedEof[index])
      throw new FrameError(`channel ${frame.channel} goes on after its end of file`);
    credit.use(frame.payload.length);
    if (frame.type === FRAME_TYPES.eof) this.#receivedEof[index] = true;
    if (this.#isReset) return;
    if (this.#sink !== undefined) return this.#deliver(this.#sink, frame);
    this.#early.push(encodeHeader(frame.type, this.id, frame.channel, frame.payload.length));
    this.#early.push(frame.payload);
  }

  #deliver(sink: StreamSink, frame: Frame): void {
    if (frame.type === FRAME_TYPES.eof) sink.eof(frame.channel);
    else sink.data(frame);
  }

  #finish(result: StreamResult): void {
    if (this.#ended !== undefined) return;
    this.#ended = result;
    this.#port.forget(this.id);
    this.#sink?.closed(result);
    this.#resolve(result);
  }

  #isOver(): boolean {
    return this.#isReset || this.#ended !== undefined;
  }

  #creditOf(channel: number): ReceiveCredit {
    if (channel === STDOUT) return this.#receiveCredit[0];
    if (channel === STDERR) return this.#receiveCredit[1];
    throw new FrameError(`no output comes on channel ${channel}`);
  }
}

function checkSignal(number: number): void {
  if (number < 1 || number > MAX_SIGNAL) throw new FrameError(`no signal has the number ${number}`);
}
