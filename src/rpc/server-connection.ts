/** One client's connection: handshake, dispatch, cancellation, errors, log lines. */

import type { Socket } from 'node:net';
import {
  type CancellationToken,
  createMessageConnection,
  ProgressType,
  ResponseError,
} from 'vscode-jsonrpc/node';
import type { Method, Progress } from '../api/contract.ts';
import { BangerError, errorText } from '../core/errors.ts';
import { RequestTokens } from './cancellation.ts';
import { noSpaceError } from './no-space.ts';
import type {
  Handlers,
  RequestConnection,
  RequestContext,
  RpcLimits,
  RpcLog,
  Validate,
} from './server-types.ts';
import { GateReader, GateWriter } from './transport.ts';
import { isRecord, toWireError } from './wire.ts';

/** Enough to find out about a daemon of another version and to end it. */
const ACROSS_VERSIONS: ReadonlySet<string> = new Set(['daemon.status', 'daemon.stop']);
/** How long a client that was refused may take to read why. */
const LINGER_MS = 1000;
const PROGRESS = new ProgressType<Progress>();

export interface ConnectionOptions {
  readonly id: string;
  readonly handlers: Handlers;
  readonly validate: Validate;
  readonly log: RpcLog;
  readonly version: string;
  readonly newOperationId: () => string;
  readonly limits: RpcLimits;
  /** Whether there is a log that keeps what is logged: only then an operation id leads anywhere. */
  readonly hasLog: boolean;
}

type Handshake =
  | { readonly state: 'missing' | 'done' }
  | { readonly state: 'refused'; readonly error: BangerError };

export class ServerConnection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #closed = new AbortController();
  readonly #tokens = new RequestTokens();
  readonly #running = new Set<AbortController>();
  readonly #writer: GateWriter;
  readonly #connection: RequestConnection;
  readonly #rpc: ReturnType<typeof createMessageConnection>;
  readonly #ended = Promise.withResolvers<void>();
  #handshake: Handshake = { state: 'missing' };
  #stopping: BangerError | undefined;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#connection = { id: options.id, closed: this.#closed.signal };
    const { limits, log } = options;
    this.#writer = new GateWriter(socket, limits, () => this.#hangUpUnread());
    const openingTimer = setTimeout(() => socket.destroy(), limits.openingTimeoutMs);
    const reader = new GateReader(socket, this.#writer, limits, {
      onOpened: () => clearTimeout(openingTimer),
      onRefused: (error) => this.refuse(error),
    });
    const logger = {
      error: (text: string) => log.error({ connection: options.id }, text),
      warn: (text: string) => log.warn({ connection: options.id }, text),
      info: (text: string) => log.debug({ connection: options.id }, text),
      log: (text: string) => log.debug({ connection: options.id }, text),
    };
    this.#rpc = createMessageConnection(reader, this.#writer, logger, {
      cancellationStrategy: this.#tokens.strategy,
    });
    this.#rpc.onRequest((method, params, token) => this.#onRequest(method, params, token));
    socket.on('error', (error) =>
      log.debug({ connection: options.id, error: error.message }, 'socket error'),
    );
    // A client that shuts down its sending side has hung up: nothing is asked of it any more.
    socket.once('end', () => this.#onHangUp());
    socket.once('close', () => {
      clearTimeout(openingTimer);
      this.#onHangUp();
      this.#rpc.dispose();
    });
    this.#rpc.listen();
  }

  /** Resolves once the client has hung up and what ran for it has been undone. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Tells the client why, and hangs up. */
  refuse(error: BangerError): void {
    this.#options.log.warn({ connection: this.#options.id, code: error.code }, `refused: ${error.message}`);
    this.#writer.refuse(null, error);
    this.#abortRunning(error);
    this.#endSoon();
  }

  /** Aborts what runs, waits for its answers, hangs up. */
  async close(reason: BangerError, graceMs: number): Promise<void> {
    this.#stopping = reason;
    this.#abortRunning(reason);
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([this.#writer.idle(), grace, this.#gone()]);
    clearTimeout(timer);
    this.#endSoon();
    await this.#gone();
  }

  #gone(): Promise<void> {
    if (this.#socket.closed) return Promise.resolve();
    return new Promise((resolve) => this.#socket.once('close', () => resolve()));
  }

  /** Flushes what was written, for a bounded time. */
  #endSoon(): void {
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS);
    this.#socket.once('close', () => clearTimeout(timer));
    this.#socket.end(() => this.#socket.destroy());
  }

  #hangUpUnread(): void {
    this.#options.log.warn({ connection: this.#options.id }, 'hung up: the client does not read its answers');
    this.#socket.destroy();
  }

  #onHangUp(): void {
    if (this.#closed.signal.aborted) return;
    const reason = new BangerError('cancelled', 'the client hung up');
    this.#closed.abort(reason);
    this.#abortRunning(reason);
    this.#settle();
  }

  #settle(): void {
    if (this.#closed.signal.aborted && this.#running.size === 0) this.#ended.resolve();
  }

  #abortRunning(reason: BangerError): void {
    for (const abort of this.#running) abort.abort(reason);
  }

  async #onRequest(method: string, params: unknown, token: CancellationToken): Promise<unknown> {
    const request = this.#tokens.take(token);
    if (request === undefined) throw new Error(`request ${method} without an id`);
    const { abort, id } = request;
    const operationId = this.#options.newOperationId();
    const startedMs = performance.now();
    let answered = false;
    const progress = (value: Progress) => {
      if (answered || this.#closed.signal.aborted) return;
      this.#rpc.sendProgress(PROGRESS, id, value).catch(() => undefined);
    };
    this.#running.add(abort);
    let outcome = 'ok';
    try {
      return await this.#dispatch(method, params, { operationId, signal: abort.signal, progress });
    } catch (thrown) {
      const error = this.#userError(thrown, method, operationId, abort.signal);
      outcome = error.code;
      const wire = toWireError(error, this.#options.hasLog ? operationId : undefined);
      throw new ResponseError(wire.code, wire.message, wire.data);
    } finally {
      answered = true;
      this.#running.delete(abort);
      this.#settle();
      const elapsedMs = Math.round((performance.now() - startedMs) * 10) / 10;
      // Debug, not info: shell completion alone asks several times a second.
      this.#options.log.debug(
        { operationId, method, connection: this.#options.id, outcome, elapsedMs },
        'request',
      );
    }
  }

  async #dispatch(
    method: string,
    params: unknown,
    context: Pick<RequestContext, 'operationId' | 'signal' | 'progress'>,
  ): Promise<unknown> {
    if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
    if (this.#stopping !== undefined) throw this.#stopping;
    if (method === 'daemon.hello') return this.#hello(params);
    if (this.#handshake.state === 'missing') {
      throw new BangerError('bad_request', 'the first request of a connection must be daemon.hello');
    }
    const { handlers, validate } = this.#options;
    if (!isHandled(handlers, method)) throw new BangerError('unsupported', `no such method: ${method}`);
    let input = params;
    if (this.#handshake.state === 'refused') {
      if (!ACROSS_VERSIONS.has(method)) throw this.#handshake.error;
      // These take no parameters here, whatever another version sends.
      input = {};
    }
    const checked = validate(method, input);
    context.signal.throwIfAborted();
    return callHandler(handlers, method, checked, { ...context, method, connection: this.#connection });
  }

  #hello(params: unknown): { version: string; pid: number } {
    const theirs = isRecord(params) ? params['version'] : undefined;
    if (typeof theirs !== 'string' || theirs.length > 128) {
      throw new BangerError('bad_request', 'daemon.hello: version: expected a text');
    }
    const ours = this.#options.version;
    if (theirs !== ours) {
      const error = new BangerError(
        'version_mismatch',
        `this is banger ${theirs}, and the daemon is ${ours}`,
        {
          hint: 'run `banger daemon stop`, then the command again: VMs keep running',
        },
      );
      this.#handshake = { state: 'refused', error };
      throw error;
    }
    this.#handshake = { state: 'done' };
    return { version: ours, pid: process.pid };
  }

  /** What the user sees of anything thrown. What nobody planned for is logged whole. */
  #userError(error: unknown, method: string, operationId: string, signal: AbortSignal): BangerError {
    const thrown = noSpaceError(error, method) ?? error;
    if (thrown instanceof BangerError) {
      // The user sees the message and the operation id; by that it is found here, with what was behind it.
      const { code, message, cause } = thrown;
      const behind = cause === undefined ? {} : { err: thrown };
      this.#options.log.warn({ operationId, method, code, ...behind }, message);
      return thrown;
    }
    if (signal.aborted && isAbortError(thrown) && signal.reason instanceof BangerError) return signal.reason;
    this.#options.log.error({ operationId, method, err: thrown }, `internal error: ${errorText(thrown)}`);
    return new BangerError('internal', `${method} failed unexpectedly: ${errorText(thrown)}`, {
      hint: this.#options.hasLog
        ? 'banger daemon logs'
        : 'this is a bug in banger; BANGER_DEBUG=1 shows where it happened',
      ...(this.#options.hasLog ? { operationId } : {}),
      cause: thrown,
    });
  }
}

function isAbortError(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError';
}

type HandledMethod = Exclude<Method, 'daemon.hello'>;

function isHandled(handlers: Handlers, method: string): method is HandledMethod {
  return Object.hasOwn(handlers, method);
}

/** A function of its own so that one type parameter ties handler and parameters together. */
function callHandler<M extends HandledMethod>(
  handlers: Handlers,
  method: M,
  params: Parameters<Handlers[M]>[0],
  context: RequestContext,
): Promise<unknown> {
  const handler = handlers[method] as (
    params: Parameters<Handlers[M]>[0],
    context: RequestContext,
  ) => Promise<unknown>;
  return handler(params, context);
}
