/** Sending requests to servers that are busy, and reading what they answer. */

import { BangerError } from '../core/errors.ts';
import { sleep } from './deadline.ts';
import type { Exchange, HttpRequest, HttpResponse } from './http.ts';
import { MAX_BUSY_ATTEMPTS, type RegistryLimits } from './limits.ts';
import { quoted } from './quoted.ts';
import { isLoopbackHost } from './reference.ts';

/**
 * As `exchange`, but a server that answers 429, or 503 where repeating does no harm, is asked again when it says.
 * @throws {BangerError} `unavailable`: still busy, or it wants to be left alone for too long
 */
export async function sendPatiently(
  exchange: Exchange,
  request: HttpRequest,
  limits: RegistryLimits,
): Promise<HttpResponse> {
  for (let attempt = 1; ; attempt += 1) {
    const response = await exchange(request);
    if (!isPutOff(request.method, response.status)) return response;
    response.close();
    const asked = retryAfterMs(response.headers['retry-after'], Date.now());
    const waitMs = asked ?? limits.retryDelayMs * 2 ** (attempt - 1);
    if (attempt >= MAX_BUSY_ATTEMPTS || waitMs > limits.maxWaitMs) {
      throw new BangerError('unavailable', `${request.url.host} is busy (HTTP ${response.status})`, {
        hint: `try again ${asked === undefined ? 'later' : `in ${Math.ceil(asked / 1000)} s, as it asks`}`,
      });
    }
    await sleep(waitMs, request.signal);
  }
}

/** 429 says the request was not looked at. After 503 the state of an upload is unknown. */
function isPutOff(method: HttpRequest['method'], status: number): boolean {
  return status === 429 || (status === 503 && method !== 'PUT');
}

/** Milliseconds from `nowMs`; undefined when it says nothing sensible. RFC 9110 section 10.2.3. */
export function retryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) || !header.endsWith('GMT') ? undefined : Math.max(0, date - nowMs);
}

export interface ReadOptions {
  /** More is an error. */
  readonly maxBytes: number;
  readonly onChunk?: (chunk: Buffer) => void;
  /** The error for more than `maxBytes`. Default: `limit_exceeded`. */
  readonly tooMuch?: () => BangerError;
}

/** The whole body. A declared length beyond the cap is refused before anything is read. */
export async function readBody(response: HttpResponse, what: string, options: ReadOptions): Promise<Buffer> {
  const tooMuch =
    options.tooMuch ??
    (() => new BangerError('limit_exceeded', `${what} is larger than ${options.maxBytes} bytes`));
  const declared = Number(response.headers['content-length'] ?? 0);
  if (declared > options.maxBytes) {
    response.close();
    throw tooMuch();
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response.body()) {
    length += chunk.length;
    if (length > options.maxBytes) throw tooMuch();
    chunks.push(chunk);
    options.onChunk?.(chunk);
  }
  return Buffer.concat(chunks, length);
}

/** JSON of any shape; undefined when it is none. Errors as `readBody`. */
export async function readJson(response: HttpResponse, what: string, maxBytes: number): Promise<unknown> {
  const text = (await readBody(response, what, { maxBytes })).toString('utf8');
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Where a server sends us on, if we may go there: plain http never leaves this machine, and never follows https.
 * @throws {BangerError} `unavailable`
 */
export function nextUrl(location: string | undefined, from: URL): URL {
  const refused = (why: string): BangerError =>
    new BangerError('unavailable', `${from.host} sends us to ${why}: refused`);
  if (location === undefined || location.length > 8192 || !URL.canParse(location, from.href)) {
    throw refused('an address that is none');
  }
  const url = new URL(location, from);
  // Whatever stands there would be sent as a login that nobody gave us.
  if (url.username !== '' || url.password !== '') throw refused('an address with a login in it');
  if (url.protocol === 'https:') return url;
  if (url.protocol !== 'http:') throw refused(`an address of the kind ${quoted(url.protocol)}`);
  if (from.protocol === 'https:') throw refused(`plain http on ${url.host}`);
  if (!isLoopbackHost(url.hostname)) throw refused(`plain http on another machine, ${url.host}`);
  return url;
}
