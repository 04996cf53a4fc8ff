/** The commands of QEMU's control socket that save and load a machine: qapi/migration.json in its sources. */

import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../core/errors.ts';
import type { QmpClient } from './qmp.ts';

const POLL_MS = 2;
/** Leave out memory that is a shared file, when saving; expect it to be there already, when loading. */
const IGNORE_SHARED = { capabilities: [{ capability: 'x-ignore-shared', state: true }] };

/** QEMU's word for what the guest does: `running`, `paused`, `inmigrate` … (qapi/run-state.json). */
export async function runState(qmp: QmpClient): Promise<string> {
  return stringIn(await qmp.execute('query-status'), 'status') ?? 'unknown';
}

/**
 * Sends the state of a stopped guest's devices to `uri` and waits until that is done.
 * @throws {BangerError} `vmm_failed` with QEMU's reason; the signal's reason
 */
export async function migrateWithoutMemory(qmp: QmpClient, uri: string, signal: AbortSignal): Promise<void> {
  await qmp.execute('migrate-set-capabilities', IGNORE_SHARED);
  await qmp.execute('migrate', { uri });
  for (;;) {
    signal.throwIfAborted();
    const answer = await qmp.execute('query-migrate');
    const status = stringIn(answer, 'status');
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled') {
      const why = stringIn(answer, 'error-desc') ?? 'it gives no reason';
      throw new BangerError('vmm_failed', `QEMU could not write its state: ${why}`);
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

/**
 * Loads a state from a descriptor that QEMU was started with (and with `-incoming defer`) and waits until that is done.
 * The guest stands still then. A state that QEMU does not accept ends it.
 * @throws {BangerError} `vmm_failed`; the signal's reason
 */
export async function loadState(qmp: QmpClient, fd: number, signal: AbortSignal): Promise<void> {
  await qmp.execute('migrate-set-capabilities', IGNORE_SHARED);
  await qmp.execute('migrate-incoming', { uri: `fd:${fd}` });
  for (;;) {
    signal.throwIfAborted();
    const status = await runState(qmp);
    if (status === 'paused') return;
    if (status !== 'inmigrate') {
      throw new BangerError('vmm_failed', `QEMU loaded a state, but says "${status}" of the guest`);
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

function stringIn(answer: unknown, name: string): string | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined;
  const value = Object.getOwnPropertyDescriptor(answer, name)?.value as unknown;
  return typeof value === 'string' ? value.slice(0, 1024) : undefined;
}
