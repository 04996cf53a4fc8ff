/**
 * A client of QEMU's control socket: one JSON object per line (docs/interop/qmp-spec in QEMU's sources).
 * A guest may have taken QEMU over, so every byte is checked and every line has a limit.
 */

import { createConnection, type Socket } from 'node:net';
import { BangerError, errorText } from '../../core/errors.ts';

export interface QmpEvent {
  readonly name: string;
  readonly data: JsonObject;
}

export type QmpEventHandler = (event: QmpEvent, client: QmpClient) => void;

type JsonObject = Readonly<Record<string, unknown>>;

export interface QmpOptions {
  readonly onEvent?: QmpEventHandler;
  /** For the greeting and for the negotiation each. */
  readonly timeoutMs?: number;
  /** Ends the attempt to connect. */
  readonly signal?: AbortSignal;
}

interface Pending {
  readonly command: string;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: BangerError) => void;
}

/** The longest answer of the commands in use is a few KiB. */
const MAX_LINE_BYTES = 1024 * 1024;
const MAX_PENDING = 64;
const TIMEOUT_MS = 10_000;
const NEWLINE = 0x0a;

export class QmpClient {
  /** Settles when the connection is over, whoever ended it and why. Never rejects. */
  readonly closed: Promise<BangerError>;
  readonly #socket: Socket;
  readonly #onEvent: QmpEventHandler;
  readonly #pending = new Map<number, Pending>();
  readonly #awaited = new Map<string, PromiseWithResolvers<void>>();
  readonly #greeting = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<BangerError>();
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true });
  #line: Buffer[] = [];
  #lineBytes = 0;
  #nextId = 1;
  #reason: BangerError | undefined;

  private constructor(socket: Socket, onEvent: QmpEventHandler) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    this.closed = this.#closed.promise;
    this.#greeting.promise.catch(() => {});
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', (error) => this.#end(errorText(error), error));
    socket.on('close', () => this.#end('QEMU closed it'));
  }

  /**
   * Connects, takes the greeting and negotiates. One client at a time: a second one waits here for the first to leave.
   * @throws {BangerError} `vmm_failed` (no such socket, not QMP), `timeout`
   */
  static async connect(path: string, options: QmpOptions = {}): Promise<QmpClient> {
    const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    const client = new QmpClient(createConnection(path), options.onEvent ?? (() => {}));
    const onAbort = (): void => client.close();
    options.signal?.addEventListener('abort', onAbort);
    if (options.signal?.aborted) onAbort();
    try {
      await withTimeout(client.#greeting.promise, timeoutMs, 'greeting');
      await client.execute('qmp_capabilities', {}, timeoutMs);
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', onAbort);
    }
  }

  /** @throws {BangerError} `vmm_failed` (QEMU refused, or the connection ended), `timeout` */
  async execute(command: string, args: JsonObject = {}, timeoutMs = TIMEOUT_MS): Promise<unknown> {
    if (this.#reason !== undefined) throw this.#reason;
    if (this.#pending.size >= MAX_PENDING) {
      throw new BangerError('limit_exceeded', `more than ${MAX_PENDING} QMP commands wait for an answer`);
    }
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#pending.set(id, { command, resolve: answer.resolve, reject: answer.reject });
    try {
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      return await withTimeout(answer.promise, timeoutMs, `answer to ${command}`);
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Settles at the next event of this name, or when the connection ends. Never rejects. */
  nextEvent(name: string): Promise<void> {
    if (this.#reason !== undefined) return Promise.resolve();
    const awaited = this.#awaited.get(name) ?? Promise.withResolvers<void>();
    this.#awaited.set(name, awaited);
    return awaited.promise;
  }

  /** Ends the connection; the machine goes on. Idempotent. */
  close(): void {
    this.#end('it was closed');
  }

  #receive(chunk: Buffer): void {
    let start = 0;
    while (this.#reason === undefined) {
      const end = chunk.indexOf(NEWLINE, start);
      const part = chunk.subarray(start, end === -1 ? chunk.length : end);
      this.#lineBytes += part.length;
      if (this.#lineBytes > MAX_LINE_BYTES) return this.#end(`a line is longer than ${MAX_LINE_BYTES} bytes`);
      if (part.length > 0) this.#line.push(part);
      if (end === -1) return;
      const line = Buffer.concat(this.#line, this.#lineBytes);
      this.#line = [];
      this.#lineBytes = 0;
      start = end + 1;
      this.#take(line);
    }
  }

  #take(line: Buffer): void {
    let message: unknown;
    try {
      message = JSON.parse(this.#utf8.decode(line));
    } catch (cause) {
      return this.#end('a line is not JSON', cause);
    }
    if (!isObject(message)) return this.#end('a line is not a JSON object');
    if (isObject(message['QMP'])) return this.#greeting.resolve();
    if (typeof message['event'] === 'string') {
      return this.#tell({
        name: message['event'],
        data: isObject(message['data']) ? message['data'] : {},
      });
    }
    this.#answer(message);
  }

  #tell(event: QmpEvent): void {
    this.#awaited.get(event.name)?.resolve();
    this.#awaited.delete(event.name);
    this.#onEvent(event, this);
  }

  /** An answer that nobody waits for any more (after a timeout) is dropped; one without an id is not an answer. */
  #answer(message: JsonObject): void {
    const { id, error } = message;
    if (typeof id !== 'number' || !('return' in message || isObject(error))) {
      return this.#end('a line is neither greeting, event nor answer');
    }
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    if (!isObject(error)) return pending.resolve(message['return']);
    const text = typeof error['desc'] === 'string' ? error['desc'] : 'no reason given';
    pending.reject(new BangerError('vmm_failed', `QEMU refused ${pending.command}: ${text}`));
  }

  #end(why: string, cause?: unknown): void {
    if (this.#reason !== undefined) return;
    const reason = new BangerError('vmm_failed', `the connection to QEMU's control socket ended: ${why}`, {
      cause,
    });
    this.#reason = reason;
    this.#socket.destroy();
    this.#greeting.reject(reason);
    for (const pending of this.#pending.values()) pending.reject(reason);
    for (const awaited of this.#awaited.values()) awaited.resolve();
    this.#closed.resolve(reason);
  }
}

async function withTimeout<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const message = `no ${what} from QEMU's control socket within ${timeoutMs} ms`;
    late.reject(new BangerError('timeout', message));
  }, timeoutMs);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
