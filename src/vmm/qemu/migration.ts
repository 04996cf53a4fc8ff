/** The commands of QEMU's control socket that save and load a machine: qapi/migration.json in its sources. */

import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../core/errors.ts';
import { waitAtMost } from '../waits.ts';
import type { QmpClient } from './qmp.ts';

/** Of a migration that is broken off, of which there are no events. */
const END_POLL_MS = 2;
/** QEMU tells of each change: this is for news that got lost. */
const POLL_MS = 200;
const CHANGE = 'MIGRATION';
const CAPABILITIES = {
  capabilities: [
    // Saving: the list of memory blocks has what the loading side reads. Loading: memory that is not sent is there already.
    { capability: 'x-ignore-shared', state: true },
    { capability: 'events', state: true },
  ],
};
/** By default QEMU sends 128 MiB a second. */
const UNLIMITED = { 'max-bandwidth': 2 ** 50 };
/** Of a QEMU that is asked while things go wrong already. */
const END_TIMEOUT_MS = 2000;
/** What a migration of ours can be doing before its end: MigrationStatus in qapi/migration.json. */
const UNDER_WAY = new Set(['setup', 'active', 'device', 'cancelling']);
/**
 * A guest whose machine moved would tell its network where it is now, several times. Ours has a network that begins with it, and
 * another MAC in a moment; under emulation the first of these takes the guest 10 ms.
 */
const NO_ANNOUNCEMENT = { 'announce-rounds': 0 };

/** QEMU's word for what the guest does: `running`, `paused`, `inmigrate` … (qapi/run-state.json). */
export async function runState(qmp: QmpClient): Promise<string> {
  return stringIn(await qmp.execute('query-status'), 'status') ?? 'unknown';
}

/**
 * Sends memory and devices of a paused guest to `uri` and waits until that is done. The disks are written and let go of,
 * and the guest is in the state `postmigrate`: `cont` takes the disks again.
 * @throws {BangerError} `vmm_failed` with QEMU's reason; the signal's reason
 */
export async function migrate(qmp: QmpClient, uri: string, signal: AbortSignal): Promise<void> {
  await qmp.execute('migrate-set-capabilities', CAPABILITIES);
  await qmp.execute('migrate-set-parameters', UNLIMITED);
  await qmp.execute('migrate', { uri });
  for (;;) {
    signal.throwIfAborted();
    const changed = qmp.nextEvent(CHANGE);
    const answer = await qmp.execute('query-migrate');
    const status = stringIn(answer, 'status');
    if (status === 'completed') return;
    if (status === 'failed' || status === 'cancelled') {
      const why = stringIn(answer, 'error-desc') ?? 'it gives no reason';
      throw new BangerError('vmm_failed', `QEMU could not write its state: ${why}`);
    }
    await waitAtMost(changed, POLL_MS, signal);
  }
}

/**
 * Breaks off what `migrate` began and waits until the guest can go on again. Best effort: when QEMU does not answer any
 * more, the reason why it is broken off says more.
 */
export async function endMigration(qmp: QmpClient): Promise<void> {
  const until = performance.now() + END_TIMEOUT_MS;
  try {
    await qmp.execute('migrate_cancel', {}, END_TIMEOUT_MS);
    while (performance.now() < until) {
      const migration = stringIn(await qmp.execute('query-migrate', {}, END_TIMEOUT_MS), 'status');
      if (!UNDER_WAY.has(migration ?? 'none') && (await runState(qmp)) !== 'finish-migrate') return;
      await sleep(END_POLL_MS);
    }
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
  }
}

/**
 * Loads a state from a descriptor that QEMU was started with (and with `-incoming defer`) and waits until that is done.
 * The guest stands still then. A state that QEMU does not accept ends it.
 * @throws {BangerError} `vmm_failed`; the signal's reason
 */
export async function loadState(qmp: QmpClient, fd: number, signal: AbortSignal): Promise<void> {
  // QEMU takes one after the other; all are under way at once.
  await Promise.all([
    qmp.execute('migrate-set-capabilities', CAPABILITIES),
    qmp.execute('migrate-set-parameters', NO_ANNOUNCEMENT),
    qmp.execute('migrate-incoming', { uri: `fd:${fd}` }),
  ]);
  for (;;) {
    signal.throwIfAborted();
    const changed = qmp.nextEvent(CHANGE);
    const status = await runState(qmp);
    if (status === 'paused') return;
    if (status !== 'inmigrate') {
      throw new BangerError('vmm_failed', `QEMU loaded a state, but says "${status}" of the guest`);
    }
    await waitAtMost(changed, POLL_MS, signal);
  }
}

function stringIn(answer: unknown, name: string): string | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined;
  const value = Object.getOwnPropertyDescriptor(answer, name)?.value as unknown;
  return typeof value === 'string' ? value.slice(0, 1024) : undefined;
}
