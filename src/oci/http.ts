/** One HTTP/1.1 exchange with limits on every part of it. Retries, redirects and logins are the business of callers. */

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { BangerError, errorText } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';
import { type ConnectorOptions, createConnector, type StartRequest } from './connector.ts';

export interface HttpLimits {
  /** Name lookup, connection and TLS together. */
  readonly connectMs: number;
  /** Nothing was sent and nothing came for this long. */
  readonly idleMs: number;
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Called with the number of bytes of the body handed to the kernel so far. */
  readonly onSent?: (bytes: number) => void;
  /** Its reason is thrown when it is a BangerError, `cancelled` otherwise. */
  readonly signal: AbortSignal;
}

export interface HttpResponse {
  /** What was asked. */
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Errors as those of `exchange`. To be read once, or `close`d. */
  body(): AsyncGenerator<Buffer, void, undefined>;
  /** Ends the connection. Idempotent; needless after the whole body was read. */
  close(): void;
}

/** The connection ended in the middle of things: the same request may well work when it is repeated. */
export class ConnectionLost extends BangerError {
  constructor(host: string, cause: unknown) {
    super('unavailable', `the connection to ${host} was lost`, { cause });
  }
}

export interface HttpOptions extends Omit<ConnectorOptions, 'connectMs'> {
  readonly limits: HttpLimits;
}

/** @throws {BangerError} `unavailable` (not reachable, TLS, not HTTP), `timeout`, or what the signal says */
export type Exchange = (request: HttpRequest) => Promise<HttpResponse>;

export function createExchange({ limits, ...options }: HttpOptions): Exchange {
  const connector = createConnector({ ...options, connectMs: limits.connectMs });
  return async (request) => {
    const start = await connector(request.url.protocol === 'https:' ? 'https:' : 'http:');
    if (request.signal.aborted) throw abortReason(request.signal);
    return await new OneExchange(request, limits, start).response;
  };
}

const SENT_BYTES = 64 * 1024;

class OneExchange {
  readonly response: Promise<HttpResponse>;
  readonly #request: HttpRequest;
  readonly #host: string;
  /** Why we ended it ourselves, which explains every error that follows. */
  #ended: BangerError | undefined;

  constructor(request: HttpRequest, limits: HttpLimits, start: StartRequest) {
    this.#request = request;
    this.#host = request.url.host;
    this.response = this.#start(limits, start);
  }

  async #start(limits: HttpLimits, start: StartRequest): Promise<HttpResponse> {
    const { url, method, headers, body, signal } = this.#request;
    const length = body === undefined ? {} : { 'content-length': String(body.length) };
    const outgoing = start(url, { method, headers: { ...headers, ...length }, signal });
    const secure = url.protocol === 'https:';
    let isConnected = false;
    const answered = Promise.withResolvers<IncomingMessage>();
    const end = (): void => {
      const what = isConnected
        ? `was silent for ${limits.idleMs / 1000} s`
        : `did not accept a connection within ${limits.connectMs / 1000} s`;
      this.#ended ??= new BangerError('timeout', `${this.#host} ${what}`);
      outgoing.destroy();
      // A request that waits for its socket says nothing when it is destroyed.
      answered.reject(this.#ended);
    };
    const onAbort = (): void => answered.reject(abortReason(signal));
    const connectTimer = setTimeout(end, limits.connectMs);
    outgoing.once('socket', (socket: Socket) => {
      const connected = (): void => {
        clearTimeout(connectTimer);
        isConnected = true;
      };
      const { secureConnecting } = socket as TLSSocket & { secureConnecting?: boolean };
      if (secure ? secureConnecting === false : !socket.connecting) connected();
      else socket.once(secure ? 'secureConnect' : 'connect', connected);
    });
    outgoing.setTimeout(limits.idleMs, end);
    outgoing.once('response', answered.resolve);
    // Stays after the response: an upload may fail later than its answer came.
    outgoing.on('error', answered.reject);
    // Without an error: a server that switches to another protocol, for which there is no listener.
    outgoing.once('close', () => answered.reject(new ConnectionLost(this.#host, undefined)));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      void this.#sendBody(outgoing);
      return this.#responseOf(await answered.promise, () => outgoing.destroy());
    } catch (error) {
      throw this.#explained(error);
    } finally {
      clearTimeout(connectTimer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #sendBody(outgoing: NodeJS.WritableStream): Promise<void> {
    const { body, onSent } = this.#request;
    const bytes = body ?? new Uint8Array();
    for (let at = 0; at < bytes.length; at += SENT_BYTES) {
      const slice = bytes.subarray(at, at + SENT_BYTES);
      const sent = await new Promise<boolean>((resolve) => {
        outgoing.write(slice, (error) => resolve(error === undefined || error === null));
      });
      // The error itself arrives as the request's event.
      if (!sent) return;
      onSent?.(at + slice.length);
    }
    outgoing.end();
  }

  #responseOf(incoming: IncomingMessage, close: () => void): HttpResponse {
    const explained = (error: unknown): BangerError => this.#explained(error);
    // An error before somebody reads the body must not end the process; the reader gets it all the same.
    incoming.on('error', () => undefined);
    return {
      url: this.#request.url,
      status: incoming.statusCode ?? 0,
      headers: incoming.headers,
      close,
      async *body() {
        try {
          for await (const chunk of incoming) yield chunk as Buffer;
        } catch (error) {
          throw explained(error);
        } finally {
          close();
        }
      },
    };
  }

  #explained(error: unknown): BangerError {
    const { signal } = this.#request;
    if (signal.aborted) return abortReason(signal);
    if (this.#ended !== undefined) return this.#ended;
    if (error instanceof BangerError) return error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'ECONNRESET' || code === 'EPIPE') return new ConnectionLost(this.#host, error);
    const certificate = /CERT|SELF_SIGNED|ERR_TLS|UNABLE_TO/.test(code);
    // HPE_: the parser's codes. Its messages quote nothing of what came.
    const what = code.startsWith('HPE_') ? 'does not speak HTTP as it should' : 'cannot be reached';
    const why = systemReason(error) ?? (code === '' ? errorText(error) : code);
    return new BangerError('unavailable', `${this.#host} ${what}: ${why}`, {
      cause: error,
      ...(certificate ? { hint: 'its certificate must be signed by an authority this host trusts' } : {}),
    });
  }
}

/** What to throw for an aborted signal. */
export function abortReason(signal: AbortSignal): BangerError {
  return signal.reason instanceof BangerError
    ? signal.reason
    : new BangerError('cancelled', 'the transfer was cancelled', { cause: signal.reason });
}
