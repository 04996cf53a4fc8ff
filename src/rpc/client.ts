/**
 * The client side of the RPC, written by hand: bundled and minified, vscode-jsonrpc adds 16 ms to a command whose bare node
 * starts in 29 ms (this adds 8, most of it node:net), and every command waits for it.
 */

import { connect as connectSocket, type Socket } from 'node:net';
import type { DaemonHello } from '../api/results/daemon.ts';
import type { Method, ParamsOf, Progress, ResultOf } from '../api/contract.ts';
import { BangerError } from '../core/errors.ts';
import { encodeMessage, FramingError, MessageParser } from './framing.ts';
import { assertSocketPath } from './socket-path.ts';
import {
  CANCEL_METHOD,
  fromWireError,
  isRecord,
  MAX_REQUEST_BYTES,
  MAX_RESPONSE_BYTES,
  PROGRESS_METHOD,
} from './wire.ts';

const DEFAULT_CANCEL_GRACE_MS = 15_000;
const DEFAULT_HELLO_TIMEOUT_MS = 10_000;
const DAEMON: Peer = { name: 'the daemon', hint: 'banger daemon logs' };

export interface ClientOptions {
  /** This program's version; the daemon must be of the same. */
  readonly version: string;
  /** From the first request to the daemon's hello. Default 10000. */
  readonly helloTimeoutMs?: number;
  /** How errors name the other side, and where they send the reader. Default: the daemon, and its log. */
  readonly peer?: Peer;
}

export interface Peer {
  readonly name: string;
  readonly hint?: string;
}

export interface ConnectOptions extends ClientOptions {
  readonly socketPath: string;
  /** Gives up connecting. */
  readonly signal?: AbortSignal;
}

export interface CallOptions {
  /**
   * Cancels the request. The call still waits for the daemon's answer, so that what it began is undone when it rejects:
   * with `cancelled`, or it resolves when the work was done before the cancellation arrived.
   */
  readonly signal?: AbortSignal;
  /** How long the answer to a cancelled request may take. Default 15000. */
  readonly cancelGraceMs?: number;
  readonly onProgress?: (progress: Progress) => void;
}

export interface RpcClient {
  /** @throws {BangerError} what the daemon answered; `unavailable` when it hung up; `cancelled`; `limit_exceeded` */
  call<M extends Method>(method: M, params: ParamsOf<M>, options?: CallOptions): Promise<ResultOf<M>>;
  /** The daemon's answer to the handshake, which goes out with the first request. */
  hello(): Promise<DaemonHello>;
  /** Resolves once the connection is gone, whoever ended it. */
  readonly closed: Promise<void>;
  /** Hangs up. What is still running is cancelled by that. */
  close(): void;
}

/**
 * Connects to a daemon that is listening.
 * @throws {BangerError} `unavailable` (nothing listens there; `cause` has the system's code), `permission`, `cancelled`
 */
export async function connect(options: ConnectOptions): Promise<RpcClient> {
  const socket = await openSocket(options.socketPath, options.signal);
  return new Client(socket, options);
}

/** A client on a socket that is connected already: one end of a pair, whose other end a child process serves. */
export function clientOver(socket: Socket, options: ClientOptions): RpcClient {
  return new Client(socket, options);
}

/** A connected unix socket. Shared with the stream client. */
export function openSocket(path: string, signal?: AbortSignal): Promise<Socket> {
  assertSocketPath(path);
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelled());
      return;
    }
    const socket = connectSocket({ path });
    const settle = () => {
      signal?.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
    };
    const onAbort = () => {
      settle();
      socket.destroy();
      reject(cancelled());
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('connect', () => {
      settle();
      resolve(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      settle();
      reject(connectError(path, error));
    });
  });
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'cancelled');
}

function connectError(path: string, error: NodeJS.ErrnoException): BangerError {
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new BangerError('permission', `no permission to connect to ${path}`, { cause: error });
  }
  return new BangerError('unavailable', `no daemon answers at ${path}`, {
    cause: error,
    hint: 'banger daemon status',
  });
}

interface Pending {
  readonly method: Method;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: BangerError) => void;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

class Client implements RpcClient {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #version: string;
  readonly #helloTimeoutMs: number;
  readonly #peer: Peer;
  readonly #parser = new MessageParser(MAX_RESPONSE_BYTES);
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #hello: Promise<DaemonHello> | undefined;
  /** Why the connection is of no use any more. */
  #failure: BangerError | undefined;

  constructor(socket: Socket, options: ClientOptions) {
    this.#socket = socket;
    this.#version = options.version;
    this.#helloTimeoutMs = options.helloTimeoutMs ?? DEFAULT_HELLO_TIMEOUT_MS;
    this.#peer = options.peer ?? DAEMON;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => this.#fail(undefined));
  }

  hello(): Promise<DaemonHello> {
    if (this.#hello === undefined) this.#flush([]);
    return this.#hello ?? Promise.reject(this.#failure ?? this.#hungUp());
  }

  async call<M extends Method>(
    method: M,
    params: ParamsOf<M>,
    options: CallOptions = {},
  ): Promise<ResultOf<M>> {
    const { signal } = options;
    if (signal?.aborted) throw cancelled();
    const { id, message, answer } = this.#prepare(method, params, options.onProgress);
    if (signal === undefined) {
      this.#flush([message]);
      return (await answer) as ResultOf<M>;
    }
    let graceTimer: NodeJS.Timeout | undefined;
    const onAbort = () => {
      this.#send(encodeMessage({ jsonrpc: '2.0', method: CANCEL_METHOD, params: { id } }));
      const graceMs = options.cancelGraceMs ?? DEFAULT_CANCEL_GRACE_MS;
      graceTimer = setTimeout(() => this.#giveUp(id, graceMs), graceMs);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      this.#flush([message]);
      return (await answer) as ResultOf<M>;
    } finally {
      signal.removeEventListener('abort', onAbort);
      clearTimeout(graceTimer);
    }
  }

  close(): void {
    this.#fail(new BangerError('cancelled', 'the connection was closed'));
    this.#socket.destroy();
  }

  /** Registers a request, without sending it. */
  #prepare(method: Method, params: unknown, onProgress?: (progress: Progress) => void) {
    if (this.#failure !== undefined) throw this.#failure;
    const id = this.#nextId++;
    const message = encodeMessage({ jsonrpc: '2.0', id, method, params });
    if (message.length > MAX_REQUEST_BYTES) {
      throw new BangerError(
        'limit_exceeded',
        `the request has ${message.length} bytes, over ${MAX_REQUEST_BYTES}`,
      );
    }
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { method, resolve, reject, onProgress });
    });
    return { id, message, answer };
  }

  /** Sends messages, behind the handshake when it has not gone out yet: one write, one wake-up of the daemon. */
  #flush(messages: readonly Buffer[]): void {
    if (this.#hello !== undefined || this.#failure !== undefined) {
      for (const message of messages) this.#send(message);
      return;
    }
    const { message, answer } = this.#prepare('daemon.hello', { version: this.#version, pid: process.pid });
    const timer = setTimeout(() => this.#onSilence(), this.#helloTimeoutMs);
    this.#hello = answer.finally(() => clearTimeout(timer)) as Promise<DaemonHello>;
    // Most callers never look at it: the daemon repeats a refusal in the answer to the request itself.
    this.#hello.catch(() => undefined);
    this.#send(Buffer.concat([message, ...messages]));
  }

  #send(bytes: Buffer): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  #onData(chunk: Buffer): void {
    try {
      for (const message of this.#parser.push(chunk)) this.#onMessage(message);
    } catch (error) {
      if (!(error instanceof FramingError)) throw error;
      this.#fail(this.#error('unavailable', `sent ${error.message}`, error));
      this.#socket.destroy();
    }
  }

  #onMessage(message: unknown): void {
    if (!isRecord(message)) return;
    if (message['method'] === PROGRESS_METHOD) {
      this.#onProgress(message['params']);
    } else if (message['id'] === null && message['error'] !== undefined) {
      this.#fail(fromWireError(message['error']));
    } else if (typeof message['id'] === 'number') {
      this.#onAnswer(message['id'], message);
    }
  }

  #onProgress(params: unknown): void {
    if (!isRecord(params) || typeof params['token'] !== 'number') return;
    // The same version on both sides is what makes the shape of a value certain.
    this.#pending.get(params['token'])?.onProgress?.(params['value'] as Progress);
  }

  #onAnswer(id: number, message: Readonly<Record<string, unknown>>): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    if (message['error'] === undefined) pending.resolve(message['result']);
    else pending.reject(fromWireError(message['error']));
  }

  /** A cancelled request whose answer does not come. */
  #giveUp(id: number, graceMs: number): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    const { name, hint } = this.#peer;
    const message = `cancelled, but ${name} has not confirmed it within ${graceMs} ms`;
    pending?.reject(new BangerError('cancelled', message, hint === undefined ? {} : { hint }));
  }

  #onSilence(): void {
    this.#fail(this.#error('timeout', `has not answered within ${this.#helloTimeoutMs} ms`));
    this.#socket.destroy();
  }

  /** Ends every request under way. The first reason counts. */
  #fail(reason: BangerError | undefined): void {
    this.#failure ??= reason ?? this.#hungUp();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(this.#failure);
  }

  #hungUp(): BangerError {
    return this.#error('unavailable', 'hung up before it answered');
  }

  #error(code: 'unavailable' | 'timeout', what: string, cause?: unknown): BangerError {
    const { name, hint } = this.#peer;
    return new BangerError(code, `${name} ${what}`, {
      ...(hint === undefined ? {} : { hint }),
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
