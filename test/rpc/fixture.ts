/** A server with handlers of the test's own, on real sockets. */

import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Method } from '../../src/api/contract.ts';
import { paramsSchemas } from '../../src/api/schemas.ts';
import { BangerError } from '../../src/core/errors.ts';
import { connect, type ConnectOptions, type RpcClient } from '../../src/rpc/client.ts';
import { encodeMessage, MessageParser } from '../../src/rpc/framing.ts';
import { listen } from '../../src/rpc/server.ts';
import type { Handlers, ListenOptions, RpcServer } from '../../src/rpc/server-types.ts';
import { TicketBooth } from '../../src/rpc/tickets.ts';

export const VERSION = '1.2.3';

export interface LogLine {
  readonly level: 'debug' | 'warn' | 'error';
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/** Every method the test does not name refuses. */
export function handlersWith(own: Partial<Handlers>): Handlers {
  const handlers: Record<string, unknown> = {};
  for (const method of Object.keys(paramsSchemas) as Method[]) {
    if (method !== 'daemon.hello')
      handlers[method] = () => Promise.reject(new BangerError('unsupported', method));
  }
  return { ...(handlers as unknown as Handlers), ...own };
}

export class Fixture implements AsyncDisposable {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'banger-rpc-'));
  readonly socketPath: string = join(this.dir, 'run', 'd.sock');
  readonly streamSocketPath: string = join(this.dir, 'run', 's.sock');
  readonly tickets = new TicketBooth();
  readonly log: LogLine[] = [];
  readonly #clients: RpcClient[] = [];
  readonly #sockets: Socket[] = [];
  readonly #deferred: (() => void)[] = [];
  server!: RpcServer;

  static async start(own: Partial<Handlers> = {}, options: Partial<ListenOptions> = {}): Promise<Fixture> {
    const fixture = new Fixture();
    fixture.server = await listen({
      socketPath: fixture.socketPath,
      streamSocketPath: fixture.streamSocketPath,
      handlers: handlersWith(own),
      tickets: fixture.tickets,
      version: VERSION,
      log: fixture.#logger(),
      ...options,
    });
    return fixture;
  }

  #logger(): ListenOptions['log'] {
    const at = (level: LogLine['level']) => (fields: object, message: string) => {
      this.log.push({ level, fields: fields as LogLine['fields'], message });
    };
    return { debug: at('debug'), warn: at('warn'), error: at('error') };
  }

  async client(options: Partial<ConnectOptions> = {}): Promise<RpcClient> {
    const client = await connect({ socketPath: this.socketPath, version: VERSION, ...options });
    this.#clients.push(client);
    return client;
  }

  /** Done at the end of the test, however it ends. */
  defer(cleanup: () => void): void {
    this.#deferred.push(cleanup);
  }

  /** A connection without a client's manners. */
  async raw(path: string = this.socketPath): Promise<RawPeer> {
    const socket = connectSocket({ path });
    this.#sockets.push(socket);
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new RawPeer(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const cleanup of this.#deferred) cleanup();
    for (const client of this.#clients) client.close();
    for (const socket of this.#sockets) socket.destroy();
    await this.server.close({ graceMs: 1000 });
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export interface RawMessage {
  readonly id?: number | string | null;
  readonly method?: string;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data?: Record<string, unknown>;
  };
}

export class RawPeer {
  readonly socket: Socket;
  readonly received: RawMessage[] = [];
  readonly bytes: Buffer[] = [];
  readonly closed: Promise<void>;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    const parser = new MessageParser(1024 * 1024);
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.bytes.push(chunk);
      try {
        for (const message of parser.push(chunk)) this.received.push(message as RawMessage);
      } catch {
        // Frames of a stream: `bytes` has them.
      }
      this.#wake();
    });
    this.closed = new Promise((resolve) =>
      socket.once('close', () => {
        resolve();
        this.#wake();
      }),
    );
  }

  send(...messages: object[]): void {
    this.socket.write(
      Buffer.concat(messages.map((message) => encodeMessage({ jsonrpc: '2.0', ...message }))),
    );
  }

  hello(version: string = VERSION): object {
    return { id: 'hello', method: 'daemon.hello', params: { version, pid: 1 } };
  }

  /** Resolves with the answer to a request; rejects when the server hangs up first. */
  async answer(id: number | string | null): Promise<RawMessage> {
    for (;;) {
      const found = this.received.find((message) => message.id === id && message.method === undefined);
      if (found !== undefined) return found;
      if (this.socket.destroyed) throw new Error('hung up');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** A promise with its resolver: a step of a test that waits for another. */
export function gate<T = void>(): PromiseWithResolvers<T> {
  return Promise.withResolvers<T>();
}

/** Settles when the signal is aborted, with its reason. */
export function aborted(signal: AbortSignal): Promise<unknown> {
  if (signal.aborted) return Promise.resolve(signal.reason);
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(signal.reason), { once: true });
  });
}
