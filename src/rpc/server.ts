/** The server side of the RPC: two sockets, one for requests and one for streams. */

import { randomBytes } from 'node:crypto';
import type { Server, Socket } from 'node:net';
import { BangerError } from '../core/errors.ts';
import { listenAt } from './listening-socket.ts';
import { type ConnectionOptions, ServerConnection } from './server-connection.ts';
import type { ListenOptions, RpcLimits, RpcServer } from './server-types.ts';
import { admitStream } from './stream-server.ts';
import { validateParams } from './validate.ts';
import { MAX_REQUEST_BYTES } from './wire.ts';

export const DEFAULT_LIMITS: RpcLimits = {
  requestBytes: MAX_REQUEST_BYTES,
  unreadBytes: 8 * 1024 * 1024,
  connections: 256,
  requestsPerConnection: 64,
  openingTimeoutMs: 10_000,
};
const OPERATION_ID_BYTES = 6;
const DEFAULT_CLOSE_GRACE_MS = 5000;

/**
 * Starts serving. Resolves once both sockets accept connections.
 * @throws {BangerError} `usage` (a socket path is too long), `permission` (its directory is not private), `io_error`
 */
export async function listen(options: ListenOptions): Promise<RpcServer> {
  const server = new SocketServer(options);
  await server.start();
  return server;
}

/** 12 random hex digits: short enough to read out, unlikely to meet again in one log. */
export function newOperationId(): string {
  return randomBytes(OPERATION_ID_BYTES).toString('hex');
}

class SocketServer implements RpcServer {
  readonly #options: ListenOptions;
  readonly #limits: RpcLimits;
  readonly #connections = new Set<ServerConnection>();
  /** Connections to the stream socket that have not presented a ticket yet. */
  readonly #streams = new Set<Socket>();
  readonly #servers: Server[] = [];
  #nextConnectionId = 1;
  #closing: Promise<void> | undefined;

  constructor(options: ListenOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** The stream socket first: whoever reaches the request socket may be sent to it. */
  async start(): Promise<void> {
    const { socketPath, streamSocketPath } = this.#options;
    this.#servers.push(await listenAt(streamSocketPath, (socket) => this.#onStream(socket)));
    try {
      this.#servers.push(await listenAt(socketPath, (socket) => this.#onConnection(socket)));
    } catch (error) {
      this.#stopListening();
      throw error;
    }
    for (const server of this.#servers) {
      server.on('error', (error) => this.#options.log.error({ err: error }, 'listening socket failed'));
    }
  }

  close(options: { readonly graceMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#close(options.graceMs ?? DEFAULT_CLOSE_GRACE_MS);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    this.#stopListening();
    this.#options.tickets.close();
    for (const socket of this.#streams) socket.destroy();
    const reason = new BangerError('unavailable', 'the daemon is stopping', {
      hint: 'run the command again',
    });
    await Promise.all([...this.#connections].map((connection) => connection.close(reason, graceMs)));
  }

  /** libuv removes the socket files with the handles (uv_pipe_bind's counterpart, `uv__pipe_close`). */
  #stopListening(): void {
    for (const server of this.#servers) server.close();
  }

  #onConnection(socket: Socket): void {
    const { handlers, log, version } = this.#options;
    const options: ConnectionOptions = {
      id: `c${this.#nextConnectionId++}`,
      handlers,
      log,
      version,
      validate: this.#options.validate ?? validateParams,
      newOperationId: this.#options.newOperationId ?? newOperationId,
      limits: this.#limits,
      hasLog: true,
    };
    const connection = new ServerConnection(socket, options);
    if (this.#connections.size >= this.#limits.connections) {
      const limit = this.#limits.connections;
      connection.refuse(
        new BangerError('limit_exceeded', `the daemon serves ${limit} clients already, its limit`),
      );
      return;
    }
    this.#connections.add(connection);
    socket.once('close', () => this.#connections.delete(connection));
  }

  #onStream(socket: Socket): void {
    if (this.#streams.size >= this.#limits.connections) {
      socket.destroy();
      return;
    }
    this.#streams.add(socket);
    admitStream(socket, {
      tickets: this.#options.tickets,
      log: this.#options.log,
      openingTimeoutMs: this.#limits.openingTimeoutMs,
      onSettled: () => this.#streams.delete(socket),
    });
  }
}
