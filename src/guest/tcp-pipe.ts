/**
 * Joins a TCP connection of the host to one that the agent makes in the guest (CONNECT). Credit of the stream and the socket's
 * own back-pressure meet here: what waits is at most a window towards the client and one chunk towards the guest.
 */

import type { Socket } from 'node:net';
import { type Frame, MAX_PAYLOAD_BYTES, STDOUT } from '../core/channel/frame.ts';
import type { GuestStream, StreamResult } from './stream.ts';

export interface TcpPipeHooks {
  /** Bytes have passed, either way. */
  readonly moved: () => void;
  /** The client has sent bytes, or its end, whether or not there is a stream yet that takes them. */
  readonly received: () => void;
}

export class TcpPipe {
  /** Settles when both connections are over. Never rejects. */
  readonly closed: Promise<void>;
  readonly #resolve: () => void;
  readonly #socket: Socket;
  readonly #hooks: TcpPipeHooks;
  #stream: GuestStream | undefined;
  /** Read from the client and not sent yet; it is not read on meanwhile. */
  #held: Buffer | undefined;
  #clientEnded = false;
  #guestEnded = false;
  #streamEnded = false;
  #isWaiting = false;

  /** Takes the connection over. The socket must allow being half open; it is read from now on, up to the first chunk. */
  constructor(socket: Socket, hooks: TcpPipeHooks) {
    this.#socket = socket;
    this.#hooks = hooks;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#resolve = resolve;
    socket.once('close', () => this.#onClose());
    // What is wrong with it is of no interest: 'close' follows.
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('end', () => {
      this.#clientEnded = true;
      this.#hooks.received();
      this.#pump();
    });
    socket.resume();
  }

  /** The client is gone, or has all it will get: there is no use in a stream any more. */
  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  /** From here on bytes pass. The stream must be fresh; one that the client has not waited for is reset. */
  attach(stream: GuestStream): void {
    this.#stream = stream;
    stream.attach({
      data: (frame) => this.#toClient(stream, frame),
      eof: (channel) => this.#endClient(channel),
      credit: () => this.#pump(),
      closed: (result) => this.#finish(result),
    });
    if (this.isClosed) stream.reset();
    else this.#pump();
  }

  /** Resets both connections. Idempotent. */
  abort(): void {
    this.#stream?.reset();
    this.#reset();
  }

  #onClose(): void {
    // A client that has ended and was told the other end may still have bytes here.
    if (!this.#bothEnded) this.#stream?.reset();
    if (this.#stream === undefined || this.#streamEnded) this.#resolve();
  }

  get #bothEnded(): boolean {
    return this.#clientEnded && this.#guestEnded;
  }

  #receive(chunk: Buffer): void {
    this.#held = chunk;
    this.#socket.pause();
    this.#hooks.received();
    this.#pump();
  }

  /** Sends what is held as far as the guest takes it; then the next chunk, or the end, may come. */
  #pump(): void {
    const stream = this.#stream;
    if (stream === undefined || (this.isClosed && !this.#bothEnded)) return;
    while (this.#held !== undefined) {
      if (stream.congested) return this.#waitFor(stream);
      const length = Math.min(this.#held.length, stream.sendCredit, MAX_PAYLOAD_BYTES);
      if (length === 0) return;
      stream.sendData(this.#held.subarray(0, length));
      this.#held = length === this.#held.length ? undefined : this.#held.subarray(length);
      this.#hooks.moved();
    }
    if (this.#clientEnded) stream.sendEof();
    else this.#socket.resume();
  }

  #waitFor(stream: GuestStream): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    stream.whenWritable(() => {
      this.#isWaiting = false;
      this.#pump();
    });
  }

  #toClient(stream: GuestStream, frame: Frame): void {
    // A guest that breaks its word about the end must not make the socket throw.
    if (this.isClosed || this.#guestEnded || frame.channel !== STDOUT) return;
    this.#hooks.moved();
    this.#socket.write(frame.payload, (error) => {
      if (!error) stream.consumed(STDOUT, frame.payload.length);
    });
  }

  #endClient(channel: number): void {
    if (channel !== STDOUT || this.#guestEnded) return;
    this.#guestEnded = true;
    this.#socket.end();
  }

  #finish(result: StreamResult): void {
    this.#streamEnded = true;
    if (this.isClosed) this.#resolve();
    if (result.kind === 'done' && this.#bothEnded) return;
    // Bytes that came before a reset are the client's.
    if (this.#socket.writableLength === 0) this.#reset();
    else this.#socket.write('', () => this.#reset());
  }

  #reset(): void {
    if (!this.isClosed) this.#socket.resetAndDestroy();
  }
}
