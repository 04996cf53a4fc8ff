/**
 * vscode-jsonrpc on a socket that is not trusted: it has no limits of its own and believes the shape of what it reads, so
 * everything passes this gate first.
 */

import type { Socket } from 'node:net';
import {
  AbstractMessageReader,
  AbstractMessageWriter,
  type DataCallback,
  type Disposable,
  type Message,
} from 'vscode-jsonrpc/node';
import { BangerError } from '../core/errors.ts';
import { encodeMessage, FramingError, MessageParser } from './framing.ts';
import type { RpcLimits } from './server-types.ts';
import { CANCEL_METHOD, isRecord, MAX_RESPONSE_BYTES, toWireError } from './wire.ts';

const MAX_METHOD_CHARACTERS = 128;
const MAX_ID_CHARACTERS = 64;

type RequestId = number | string;

export interface GateEvents {
  /** The first whole message has come. */
  onOpened(): void;
  /** The client broke the protocol or a limit, was told so, and is hung up on. */
  onRefused(error: BangerError): void;
}

function isRequestId(value: unknown): value is RequestId {
  if (typeof value === 'string') return value.length <= MAX_ID_CHARACTERS;
  return typeof value === 'number' && Number.isSafeInteger(value);
}

/** Reads requests and cancellations, and nothing else, within the limits. */
export class GateReader extends AbstractMessageReader {
  readonly #socket: Socket;
  readonly #writer: GateWriter;
  readonly #limits: RpcLimits;
  readonly #events: GateEvents;
  readonly #parser: MessageParser;
  #opened = false;

  constructor(socket: Socket, writer: GateWriter, limits: RpcLimits, events: GateEvents) {
    super();
    this.#socket = socket;
    this.#writer = writer;
    this.#limits = limits;
    this.#events = events;
    this.#parser = new MessageParser(limits.requestBytes);
  }

  listen(callback: DataCallback): Disposable {
    const onData = (chunk: Buffer) => this.#onData(chunk, callback);
    const onClose = () => this.fireClose();
    this.#socket.on('data', onData);
    this.#socket.once('close', onClose);
    return {
      dispose: () => {
        this.#socket.off('data', onData);
        this.#socket.off('close', onClose);
      },
    };
  }

  #onData(chunk: Buffer, callback: DataCallback): void {
    try {
      for (const message of this.#parser.push(chunk)) {
        if (!this.#opened) {
          this.#opened = true;
          this.#events.onOpened();
        }
        this.#admit(message, callback);
      }
    } catch (error) {
      if (error instanceof FramingError) {
        this.#refuse(
          new BangerError(error.reason === 'too_large' ? 'limit_exceeded' : 'bad_request', error.message),
        );
      } else if (error instanceof BangerError) {
        this.#refuse(error);
      } else {
        throw error;
      }
    }
  }

  #admit(message: unknown, callback: DataCallback): void {
    if (!isRecord(message) || typeof message['method'] !== 'string') {
      throw new BangerError('bad_request', 'a message that is neither a request nor a notification');
    }
    if (message['method'].length > MAX_METHOD_CHARACTERS) {
      throw new BangerError('bad_request', 'a method name that is too long');
    }
    if ('id' in message) {
      if (!isRequestId(message['id'])) throw new BangerError('bad_request', 'a request id of a wrong type');
      if (!this.#enter(message['id'])) return;
      callback(requestOf(message['id'], message['method'], message['params']));
    } else if (message['method'] === CANCEL_METHOD) {
      const id = isRecord(message['params']) ? message['params']['id'] : undefined;
      if (!isRequestId(id)) throw new BangerError('bad_request', 'a cancellation that names no request');
      if (this.#writer.isInFlight(id)) callback(cancellationOf(id));
    }
  }

  /** Counts the request; false when it was answered here because there are too many. */
  #enter(id: RequestId): boolean {
    if (this.#writer.isInFlight(id)) {
      throw new BangerError('bad_request', `request id ${id} is in use already`);
    }
    if (this.#writer.inFlight >= this.#limits.requestsPerConnection) {
      this.#writer.refuse(
        id,
        new BangerError(
          'limit_exceeded',
          `${this.#limits.requestsPerConnection} requests are running on this connection already`,
        ),
      );
      return false;
    }
    this.#writer.enter(id);
    return true;
  }

  #refuse(error: BangerError): void {
    this.#socket.removeAllListeners('data');
    this.#socket.resume();
    this.#events.onRefused(error);
  }
}

/** Copied field by field: what else the client put into the object goes no further. */
function requestOf(id: RequestId, method: string, params: unknown): Message {
  // vscode-jsonrpc would spread an array over the handler's arguments.
  const one = Array.isArray(params) ? [params] : params;
  return { jsonrpc: '2.0', id, method, params: one } as Message;
}

function cancellationOf(id: RequestId): Message {
  return { jsonrpc: '2.0', method: CANCEL_METHOD, params: { id } } as Message;
}

/** Writes answers and progress. Knows which requests have not been answered. */
export class GateWriter extends AbstractMessageWriter {
  readonly #socket: Socket;
  readonly #limits: RpcLimits;
  readonly #onUnread: () => void;
  /** As text: vscode-jsonrpc's queue does not tell 1 from "1" either. */
  readonly #inFlight = new Set<string>();
  #onIdle: (() => void) | undefined;

  constructor(socket: Socket, limits: RpcLimits, onUnread: () => void) {
    super();
    this.#socket = socket;
    this.#limits = limits;
    this.#onUnread = onUnread;
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  isInFlight(id: RequestId): boolean {
    return this.#inFlight.has(String(id));
  }

  enter(id: RequestId): void {
    this.#inFlight.add(String(id));
  }

  /** Answers a request that never reached a handler; id null speaks about the connection. */
  refuse(id: RequestId | null, error: BangerError): void {
    this.#send({ jsonrpc: '2.0', id, error: toWireError(error, undefined) });
  }

  /** Resolves once every request has been answered. One caller at a time. */
  idle(): Promise<void> {
    if (this.#inFlight.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  async write(message: Message): Promise<void> {
    this.#send(message);
    if (!('method' in message) && 'id' in message && isRequestId(message.id)) {
      this.#inFlight.delete(String(message.id));
      if (this.#inFlight.size === 0) this.#onIdle?.();
    }
  }

  end(): void {
    this.#socket.end();
  }

  #send(message: object): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    if (this.#socket.writableLength > this.#limits.unreadBytes) {
      this.#onUnread();
      return;
    }
    this.#socket.write(this.#encode(message));
  }

  #encode(message: object): Buffer {
    const bytes = encodeMessage(message);
    if (bytes.length <= MAX_RESPONSE_BYTES || !('id' in message)) return bytes;
    const error = new BangerError(
      'limit_exceeded',
      `the answer has ${bytes.length} bytes, over ${MAX_RESPONSE_BYTES}`,
    );
    return encodeMessage({ jsonrpc: '2.0', id: message.id, error: toWireError(error, undefined) });
  }
}
