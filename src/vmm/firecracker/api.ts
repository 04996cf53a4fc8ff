/**
 * A client of Firecracker's API: HTTP with JSON over a unix socket (src/firecracker/swagger/firecracker.yaml in its
 * sources). A guest may have taken Firecracker over, so every answer has a limit in size and time, and is checked.
 */

import type { IncomingMessage } from 'node:http';
import { BangerError, errorText } from '../../core/errors.ts';
import { isTimeout } from '../waits.ts';

export type ApiMethod = 'GET' | 'PUT' | 'PATCH';

export interface ApiRequest {
  readonly method: ApiMethod;
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
}

export interface ApiLimits {
  /** Default 10 s: it answers when it has done it. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The longest answer of the requests in use is the machine's configuration. */
const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_FAULT_CHARS = 1000;
const TIMEOUT_MS = 10_000;

/** Nobody listens at the socket: not yet, or not any more. */
export class NotListening extends BangerError {
  constructor(cause: unknown) {
    super('vmm_failed', `Firecracker does not listen: ${errorText(cause)}`, { cause });
  }
}

/**
 * Sends one request on a connection of its own.
 * @returns the JSON of an answer that has some
 * @throws {NotListening}
 * @throws {BangerError} `vmm_failed` (it refused, with its reason, hung up, or answers what makes no sense), `timeout`,
 *   `cancelled`
 */
export async function callApi(
  socketPath: string,
  request: ApiRequest,
  limits: ApiLimits = {},
): Promise<unknown> {
  const late = AbortSignal.timeout(limits.timeoutMs ?? TIMEOUT_MS);
  const signal = AbortSignal.any([late, ...(limits.signal === undefined ? [] : [limits.signal])]);
  const what = `${request.method} ${request.path}`;
  try {
    const { status, text } = await exchange(socketPath, request, signal);
    if (status === 204) return undefined;
    if (status === 200) return JSON.parse(text);
    throw new BangerError('vmm_failed', `Firecracker refused ${what} (${status}): ${faultOf(text)}`);
  } catch (cause) {
    if (cause instanceof BangerError) throw cause;
    if (isTimeout(late)) throw new BangerError('timeout', `Firecracker did not answer ${what} in time`);
    if (signal.aborted) throw new BangerError('cancelled', `${what} to Firecracker was cancelled`);
    if (isNobody(cause)) throw new NotListening(cause);
    throw new BangerError('vmm_failed', `Firecracker broke off ${what}: ${errorText(cause)}`, { cause });
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

async function exchange(
  socketPath: string,
  { method, path, body }: ApiRequest,
  signal: AbortSignal,
): Promise<Answer> {
  // Most daemons never need it.
  const { request } = await import('node:http');
  const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const answered = Promise.withResolvers<IncomingMessage>();
  const outgoing = request(
    {
      socketPath,
      method,
      path,
      agent: false,
      signal,
      headers: {
        Accept: 'application/json',
        ...(content === undefined
          ? {}
          : { 'Content-Type': 'application/json', 'Content-Length': content.length }),
      },
    },
    answered.resolve,
  );
  outgoing.on('error', answered.reject);
  outgoing.end(content);
  try {
    const incoming = await answered.promise;
    return { status: incoming.statusCode ?? 0, text: await textOf(incoming) };
  } finally {
    // It keeps connections open.
    outgoing.destroy();
  }
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`an answer of more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Definition `Error`. What is quoted goes to a terminal. */
function faultOf(text: string): string {
  const printable = (words: string): string => words.replace(/\p{C}/gu, ' ').slice(0, MAX_FAULT_CHARS);
  try {
    const { fault_message: words } = JSON.parse(text) as { fault_message?: unknown };
    return typeof words === 'string' ? printable(words) : 'no reason given';
  } catch {
    return printable(text);
  }
}

function isNobody(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'EAGAIN';
}
