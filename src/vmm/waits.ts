/** Waiting for what a VMM does, no longer than a signal allows. */

import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { BangerError, errorText } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';

/** What connect(2) says of a socket that is not there yet, or whose queue is full. */
const NOT_YET = new Set(['ENOENT', 'ECONNREFUSED', 'EAGAIN']);

/** What `promise` gives, or `error` as soon as the signal comes; what the promise does later is nobody's. */
export async function withinSignal<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  error: () => BangerError,
): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(error());
  aborted.promise.catch(() => {});
  promise.catch(() => {});
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([aborted.promise, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Waits for the promise, but not beyond the signal: then it is undefined. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const aborted = Promise.withResolvers<undefined>();
  const onAbort = (): void => aborted.resolve(undefined);
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Waits for the promise, which does not reject, but for at most so long and not beyond the signal. */
export async function waitAtMost(
  promise: Promise<unknown>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const over = Promise.withResolvers<void>();
  const timer = setTimeout(over.resolve, timeoutMs);
  const onAbort = (): void => over.resolve();
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    await Promise.race([promise, over.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

/** Whether the signal came from `AbortSignal.timeout`. */
export function isTimeout(signal: AbortSignal): boolean {
  return signal.aborted && signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
}

/** Undefined while the socket does not accept. */
export async function tryConnect(path: string): Promise<Socket | undefined> {
  const socket = createConnection(path);
  try {
    await once(socket, 'connect');
    return socket;
  } catch (cause) {
    socket.destroy();
    const code = (cause as NodeJS.ErrnoException).code;
    if (code !== undefined && NOT_YET.has(code)) return undefined;
    throw new BangerError(
      'vmm_failed',
      `cannot connect to ${path}: ${systemReason(cause) ?? errorText(cause)}`,
      { cause },
    );
  }
}
