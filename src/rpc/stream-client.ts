/** The client's end of a stream: presents the ticket, then carries frames with credit (docs/agent-protocol.md, "Client streams"). */

import { connect as connectSocket, type Socket } from 'node:net';
import { type CloseResult, decodeClose } from '../core/channel/close.ts';
import { ReceiveCredit, SendCredit } from '../core/channel/credit.ts';
import {
  decodeU32,
  encodeFrame,
  encodeHeader,
  encodeSize,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameError,
  FrameParser,
  MAX_PAYLOAD_BYTES,
  STDERR,
  STDIN,
  STDOUT,
} from '../core/channel/frame.ts';
import { BangerError } from '../core/errors.ts';
import { assertSocketPath } from './socket-path.ts';
import type { ClientStream, OpenStreamOptions } from './stream-types.ts';

/** A connection carries one stream. */
const STREAM = 1;

/**
 * Opens the stream a ticket stands for. Writing may begin at once.
 * @throws {BangerError} `usage`: the socket path is too long. All else is told by `result`.
 */
export function openStream(options: OpenStreamOptions): ClientStream {
  assertSocketPath(options.streamSocketPath);
  return new SocketStream(connectSocket({ path: options.streamSocketPath }), options);
}

/** One direction of output: its credit and whether more may come. */
class OutputChannel {
  readonly credit = new ReceiveCredit();
  ended = false;
}

class SocketStream implements ClientStream {
  readonly result: Promise<CloseResult>;
  readonly #socket: Socket;
  readonly #options: OpenStreamOptions;
  readonly #parser = new FrameParser();
  readonly #input = new SendCredit();
  readonly #outputs = { [STDOUT]: new OutputChannel(), [STDERR]: new OutputChannel() };
  /** Input beyond the credit. */
  #kept: Uint8Array[] = [];
  #inputEnded = false;
  #eofSent = false;
  #settled = false;
  #resolve: (result: CloseResult) => void = () => undefined;
  #reject: (error: BangerError) => void = () => undefined;
  #socketError: NodeJS.ErrnoException | undefined;
  #connected = false;

  constructor(socket: Socket, options: OpenStreamOptions) {
    this.#socket = socket;
    this.#options = options;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever only hangs up does not look at the result.
    this.result.catch(() => undefined);
    socket.once('connect', () => {
      this.#connected = true;
    });
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', (error) => {
      this.#socketError = error;
    });
    socket.once('close', () => this.#onClose());
    socket.write(`${options.ticket}\n`, 'latin1');
    const { signal } = options;
    if (signal === undefined) return;
    const onAbort = () => this.#fail(new BangerError('cancelled', 'cancelled'));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('close', () => signal.removeEventListener('abort', onAbort));
  }

  write(chunk: Uint8Array): boolean {
    if (this.#settled || this.#inputEnded) return false;
    if (chunk.length > 0) this.#kept.push(chunk);
    return this.#sendKept();
  }

  endInput(): void {
    this.#inputEnded = true;
    this.#sendKept();
  }

  sendSignal(number: number): void {
    this.#send(encodeFrame(FRAME_TYPES.signal, STREAM, 0, encodeU32(number)));
  }

  resize(rows: number, columns: number): void {
    this.#send(encodeFrame(FRAME_TYPES.resize, STREAM, 0, encodeSize(rows, columns)));
  }

  reset(): void {
    this.#kept = [];
    this.#send(encodeFrame(FRAME_TYPES.reset, STREAM));
  }

  destroy(): void {
    this.#fail(new BangerError('cancelled', 'the stream was closed'));
  }

  #send(bytes: Uint8Array): void {
    if (!this.#settled && !this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** Sends what credit allows; true when nothing is left. Credit also bounds what waits in the socket. */
  #sendKept(): boolean {
    while (this.#kept.length > 0 && this.#input.available > 0) {
      const chunk = this.#kept[0] as Uint8Array;
      const count = Math.min(chunk.length, this.#input.available, MAX_PAYLOAD_BYTES);
      this.#input.use(count);
      this.#sendInput(chunk.subarray(0, count));
      if (count === chunk.length) this.#kept.shift();
      else this.#kept[0] = chunk.subarray(count);
    }
    if (this.#kept.length > 0) return false;
    if (this.#inputEnded && !this.#eofSent) {
      this.#eofSent = true;
      this.#send(encodeFrame(FRAME_TYPES.eof, STREAM, STDIN));
    }
    return true;
  }

  /** Header and payload in one system call, without copying the payload. */
  #sendInput(payload: Uint8Array): void {
    if (this.#settled || this.#socket.destroyed) return;
    this.#socket.cork();
    this.#socket.write(encodeHeader(FRAME_TYPES.data, STREAM, STDIN, payload.length));
    this.#socket.write(payload);
    this.#socket.uncork();
  }

  #onData(chunk: Buffer): void {
    try {
      for (const frame of this.#parser.push(chunk)) {
        if (this.#settled) return;
        this.#onFrame(frame);
      }
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#fail(
        new BangerError('channel_broken', `the daemon broke the stream's protocol: ${error.message}`, {
          cause: error,
          hint: 'banger daemon logs',
        }),
      );
    }
  }

  #onFrame(frame: Frame): void {
    if (frame.stream !== STREAM) throw new FrameError(`frame of stream ${frame.stream}`);
    switch (frame.type) {
      case FRAME_TYPES.data:
        this.#onOutput(frame.channel, frame.payload);
        break;
      case FRAME_TYPES.eof:
        this.#output(frame.channel).ended = true;
        break;
      case FRAME_TYPES.window:
        this.#onWindow(frame);
        break;
      case FRAME_TYPES.close:
        this.#succeed(decodeClose(frame.payload));
        break;
      default:
        throw new FrameError(`frame type ${frame.type} from the daemon`);
    }
  }

  #output(channel: number): OutputChannel {
    if (channel === STDOUT || channel === STDERR) return this.#outputs[channel];
    throw new FrameError(`output on channel ${channel}`);
  }

  #onOutput(channel: number, payload: Uint8Array): void {
    const output = this.#output(channel);
    if (output.ended) throw new FrameError(`DATA after EOF on channel ${channel}`);
    output.credit.use(payload.length);
    const taken = () => {
      const grant = output.credit.take(payload.length);
      if (grant === 0 || output.ended) return;
      output.credit.grant(grant);
      this.#send(encodeFrame(FRAME_TYPES.window, STREAM, channel, encodeU32(grant)));
    };
    if (channel === STDOUT) this.#options.onStdout(payload, taken);
    else this.#options.onStderr(payload, taken);
  }

  #onWindow(frame: Frame): void {
    if (frame.channel !== STDIN) throw new FrameError(`WINDOW for channel ${frame.channel}`);
    this.#input.add(decodeU32(frame.payload));
    const wasBlocked = this.#kept.length > 0;
    if (this.#sendKept() && wasBlocked) this.#options.onWritable?.();
  }

  #succeed(result: CloseResult): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#kept = [];
    this.#resolve(result);
    this.#socket.destroy();
  }

  #fail(error: BangerError): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#kept = [];
    this.#reject(error);
    this.#socket.destroy();
  }

  #onClose(): void {
    const cause = this.#socketError;
    if (this.#connected) {
      this.#fail(
        new BangerError('channel_broken', 'the daemon hung up before the result came', {
          ...(cause === undefined ? {} : { cause }),
          hint: 'banger daemon logs',
        }),
      );
    } else {
      this.#fail(
        new BangerError('unavailable', `no daemon answers at ${this.#options.streamSocketPath}`, {
          ...(cause === undefined ? {} : { cause }),
          hint: 'banger daemon status',
        }),
      );
    }
  }
}
