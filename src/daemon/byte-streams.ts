/**
 * Bytes of a client that belong to a request: the client gets a ticket, presents it on the stream socket, and names it in
 * the request that reads or writes them (docs/agent-protocol.md, "Client streams": stdin comes from the client, stdout goes
 * to it). What becomes of the request is told by its answer; the stream's CLOSE only ends the stream.
 */

import type { Socket } from 'node:net';
import type { StreamTicket } from '../api/results/stream.ts';
import { encodeClose, ERRNO } from '../core/channel/close.ts';
import { ReceiveCredit, SendCredit } from '../core/channel/credit.ts';
import {
  decodeU32,
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameError,
  FrameParser,
  MAX_PAYLOAD_BYTES,
  STDIN,
  STDOUT,
} from '../core/channel/frame.ts';
import { BangerError } from '../core/errors.ts';
import type { TicketBooth } from '../rpc/tickets.ts';
import { abandonable } from './abandonable.ts';

const STREAM = 1;
/** How long a stream that was presented waits for its request. */
const UNCLAIMED_MS = 10_000;
/** How long a client may take to close its side once it has been told that the stream is over. */
const LINGER_MS = 5000;

export class ByteStreams {
  readonly #tickets: TicketBooth;
  readonly #streamSocketPath: string;
  readonly #open = new Map<string, Promise<ClientBytes>>();

  constructor(tickets: TicketBooth, streamSocketPath: string) {
    this.#tickets = tickets;
    this.#streamSocketPath = streamSocketPath;
  }

  /** @throws {BangerError} `limit_exceeded` */
  open(): StreamTicket {
    const { promise, resolve, reject } = Promise.withResolvers<ClientBytes>();
    promise.catch(() => undefined);
    const ticket = this.#tickets.issue(
      (socket) => {
        const bytes = new ClientBytes(socket);
        resolve(bytes);
        const timer = setTimeout(() => {
          if (this.#open.delete(ticket)) bytes.finish(false);
        }, UNCLAIMED_MS);
        timer.unref();
      },
      {
        onUnused: () => {
          this.#open.delete(ticket);
          reject(new BangerError('timeout', 'nobody came for the stream'));
        },
      },
    );
    this.#open.set(ticket, promise);
    return { ticket, streamSocketPath: this.#streamSocketPath };
  }

  /**
   * Runs `work` with the bytes of the client that presents the ticket, and ends the stream with it.
   * @throws {BangerError} `bad_request` (no such ticket), `timeout` (not presented), `cancelled` (the client has gone)
   */
  async use<T>(ticket: string, signal: AbortSignal, work: (bytes: ClientBytes) => Promise<T>): Promise<T> {
    const coming = this.#open.get(ticket);
    if (coming === undefined)
      throw new BangerError('bad_request', 'that is not the ticket of an open stream');
    this.#open.delete(ticket);
    let bytes: ClientBytes;
    try {
      bytes = await abandonable(coming, signal);
    } catch (error) {
      coming.then(
        (late) => late.finish(false),
        () => undefined,
      );
      throw error;
    }
    const onAbort = (): void => bytes.finish(false);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const result = await work(bytes);
      bytes.finish(true);
      return result;
    } finally {
      signal.removeEventListener('abort', onAbort);
      bytes.finish(false);
    }
  }
}

/** The client's end of one stream, as bytes that come and go. */
export class ClientBytes {
  readonly #socket: Socket;
  readonly #parser = new FrameParser();
  readonly #output = new SendCredit();
  readonly #input = new ReceiveCredit();
  /** At most a window of it. */
  #came: Uint8Array[] = [];
  #ended = false;
  #gone: string | undefined;
  #finished = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    for (const event of ['end', 'close', 'error'])
      socket.on(event, () => this.#leave('the other end of the stream has gone'));
    socket.resume();
  }

  /** Settles when the bytes are on their way. @throws {BangerError} `cancelled`: nobody takes them */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      this.#assertThere();
      const room = Math.min(this.#output.available, MAX_PAYLOAD_BYTES);
      if (room === 0) {
        await this.#change();
        continue;
      }
      const piece = bytes.subarray(at, at + room);
      this.#output.use(piece.length);
      this.#socket.write(encodeFrame(FRAME_TYPES.data, STREAM, STDOUT, piece));
      at += piece.length;
    }
  }

  /** What the client sends, until it has said that this is all. @throws {BangerError} `cancelled`: it went away before */
  async *chunks(): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const chunk = this.#came.shift();
      if (chunk !== undefined) {
        yield chunk;
        this.#taken(chunk.length);
      } else if (this.#ended) return;
      else {
        this.#assertThere();
        await this.#change();
      }
    }
  }

  /** The last the client hears. The first call counts. */
  finish(isGood: boolean): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#leave('the stream is closed');
    const result = isGood
      ? ({ kind: 'done', status: 0 } as const)
      : ({ kind: 'failed', errno: ERRNO.ECONNRESET, text: 'reset: the request has ended' } as const);
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS);
    this.#socket.once('close', () => clearTimeout(timer));
    this.#socket.end(encodeFrame(FRAME_TYPES.close, STREAM, 0, encodeClose(result)));
  }

  #onData(chunk: Buffer): void {
    if (this.#gone !== undefined) return;
    try {
      for (const frame of this.#parser.push(chunk)) this.#onFrame(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#leave(`the stream broke the protocol: ${error.message}`);
      this.#socket.destroy();
    }
    this.#wake();
  }

  #onFrame({ type, channel, payload }: Frame): void {
    if (type === FRAME_TYPES.data && channel === STDIN) {
      if (this.#ended) throw new FrameError('DATA after EOF');
      this.#input.use(payload.length);
      this.#came.push(payload);
    } else if (type === FRAME_TYPES.eof && channel === STDIN) this.#ended = true;
    else if (type === FRAME_TYPES.window && channel === STDOUT) this.#output.add(decodeU32(payload));
    else if (type === FRAME_TYPES.reset) this.#leave('the other end has given the stream up');
    else throw new FrameError(`frame type ${type} on channel ${channel}`);
  }

  #taken(count: number): void {
    const grant = this.#input.take(count);
    if (grant === 0 || this.#ended || this.#gone !== undefined) return;
    this.#input.grant(grant);
    this.#socket.write(encodeFrame(FRAME_TYPES.window, STREAM, STDIN, encodeU32(grant)));
  }

  #leave(why: string): void {
    this.#gone ??= why;
    this.#wake();
  }

  #assertThere(): void {
    if (this.#gone !== undefined) throw new BangerError('cancelled', this.#gone);
  }

  /** Settles when something has come or the client has gone. One caller at a time. */
  async #change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await promise;
  }
}
