/** What the server side of the RPC layer asks of the daemon, and gives it. */

import type { CheckedParamsOf, Method, Progress, ResultOf } from '../api/contract.ts';
import type { TicketBooth } from './tickets.ts';

/** One request, as its handler sees it. */
export interface RequestContext {
  /** Appears in the error the user sees and in every log line of the request. */
  readonly operationId: string;
  readonly method: Method;
  /** Aborted by `$/cancelRequest`, by the client hanging up and by the server closing. The reason is a BangerError. */
  readonly signal: AbortSignal;
  /** Sends one `$/progress`. Never throws; after the answer it does nothing. */
  readonly progress: (progress: Progress) => void;
  readonly connection: RequestConnection;
}

export interface RequestConnection {
  readonly id: string;
  /** Aborted once the client has hung up, also long after the request's answer. */
  readonly closed: AbortSignal;
}

export type Handler<M extends Method> = (
  params: CheckedParamsOf<M>,
  context: RequestContext,
) => Promise<ResultOf<M>>;

/** A handler for every method but `daemon.hello`, which the server answers itself. */
export type Handlers = { readonly [M in Exclude<Method, 'daemon.hello'>]: Handler<M> };

/** The part of a structured logger (pino has it) that this layer uses. */
export interface RpcLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** @throws {BangerError} `usage`, naming the field, when the parameters are not what the method takes */
export type Validate = <M extends Method>(method: M, params: unknown) => CheckedParamsOf<M>;

export interface RpcLimits {
  /** Largest request, bytes of JSON. */
  readonly requestBytes: number;
  /** Bytes of answers a client may leave unread before it is hung up on. */
  readonly unreadBytes: number;
  readonly connections: number;
  readonly requestsPerConnection: number;
  /** From accepting a connection to its first complete request (or ticket). */
  readonly openingTimeoutMs: number;
}

export interface ListenOptions {
  /** At most 107 bytes. The directory is created with mode 0700; a file left there is replaced: the caller holds the instance lock. */
  readonly socketPath: string;
  readonly streamSocketPath: string;
  readonly handlers: Handlers;
  readonly tickets: TicketBooth;
  readonly log: RpcLog;
  /** Clients must be of exactly this version. */
  readonly version: string;
  /** Default: the schemas of src/api/schemas.ts. */
  readonly validate?: Validate;
  /** Default: 12 random hex digits. */
  readonly newOperationId?: () => string;
  readonly limits?: Partial<RpcLimits>;
}

export interface RpcServer {
  /** Clients connected now. */
  readonly connections: number;
  /**
   * Stops listening and removes both sockets, aborts the requests in flight, waits for their answers (at most `graceMs`,
   * default 5000) and hangs up. Idempotent. Never await it inside a handler: it waits for that handler.
   */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}
