/** Time limits that are signals. */

import { setTimeout as sleepFor } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import { abortReason } from './http.ts';

/**
 * Runs `work` with a signal that ends it after `ms` milliseconds, or when `outer` does.
 * @throws {BangerError} `timeout` saying that `what` took too long; what `work` throws
 */
export async function withDeadline<T>(
  outer: AbortSignal | undefined,
  ms: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(new BangerError('timeout', `${what} took longer than ${Math.round(ms / 1000)} s`));
  }, ms);
  const end = (): void => controller.abort(outer?.reason);
  if (outer?.aborted === true) end();
  outer?.addEventListener('abort', end, { once: true });
  try {
    if (controller.signal.aborted) throw abortReason(controller.signal);
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', end);
  }
}

/** @throws {BangerError} what the signal says */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleepFor(ms, undefined, { signal });
  } catch {
    throw abortReason(signal);
  }
}
