/** How Firecracker is led from a frozen machine's state to a running guest. */

import type { RestoreOptions } from '../driver.ts';
import { INHERITED_FD } from '../process.ts';
import type { ApiLimits, ApiRequest } from './api.ts';
import { diskChangedRequest, loadRequest, runRequest } from './config.ts';

/** Loading takes milliseconds; with many at once on a busy host each waits for the others. */
export const RESTORE_TIMEOUT_MS = 30_000;

/**
 * Loads the state that Firecracker inherited, tells it of disks that have grown, and lets the guest go on.
 * @throws {BangerError} `vmm_failed`, `cancelled`; what `beforeRun` throws
 */
export async function goOn(
  call: (request: ApiRequest, limits?: ApiLimits) => Promise<unknown>,
  memoryPath: string,
  { grownDisks = [], beforeRun }: Pick<RestoreOptions, 'grownDisks' | 'beforeRun'>,
  signal: AbortSignal,
): Promise<void> {
  const limits = { signal, timeoutMs: RESTORE_TIMEOUT_MS };
  await call(loadRequest(INHERITED_FD, memoryPath), limits);
  for (const { id } of grownDisks) await call(diskChangedRequest(id), limits);
  signal.throwIfAborted();
  await beforeRun?.();
  signal.throwIfAborted();
  await call(runRequest('Resumed'), limits);
}
