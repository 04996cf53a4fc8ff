import { BangerError } from '../core/errors.ts';

/**
 * Waits for shared work until it settles or this caller gives up; the work goes on either way.
 * @throws {BangerError} `cancelled` when the signal aborts first; whatever the work throws
 */
export async function abandonable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: left, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(new BangerError('cancelled', 'cancelled'));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([left, work]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    work.catch(() => undefined);
  }
}
