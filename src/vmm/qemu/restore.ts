/** How QEMU is led from a frozen machine's state to a running guest. */

import type { MachineSpec, RestoreOptions } from '../driver.ts';
import { INHERITED_FD } from '../process.ts';
import { loadState } from './migration.ts';
import type { QmpClient } from './qmp.ts';

/** What a restored machine's command line has beside a new one's: it waits for a state instead of booting. */
export const INCOMING_ARGV: readonly string[] = ['-incoming', 'defer'];

/** Loading takes some 10 ms of CPU time; with many at once on a busy host each waits for the others. */
export const RESTORE_TIMEOUT_MS = 30_000;

/**
 * Loads the state that QEMU inherited, tells it of disks that have grown, and lets the guest go on.
 * @throws {BangerError} `vmm_failed`; the signal's reason
 */
export async function goOn(
  qmp: QmpClient,
  spec: MachineSpec,
  { grownDisks = [], beforeRun }: Pick<RestoreOptions, 'grownDisks' | 'beforeRun'>,
  signal: AbortSignal,
): Promise<void> {
  await loadState(qmp, INHERITED_FD, signal);
  for (const { id, sizeBytes } of grownDisks) {
    const index = spec.disks.findIndex((disk) => disk.id === id);
    // Also where the file has that size already: this is what tells the guest.
    await qmp.execute('block_resize', { 'node-name': `disk${index}`, size: sizeBytes });
  }
  signal.throwIfAborted();
  await beforeRun?.();
  await qmp.execute('cont');
}
