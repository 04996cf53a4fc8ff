/**
 * From a running guest to files: its memory is one already, and the state of its devices is what QEMU sends in a
 * migration that leaves shared memory out (`x-ignore-shared`; docs/devel/migration.rst in QEMU's sources). QEMU may not
 * start programs (its sandbox), so it sends to a socket that we listen on.
 */

import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../core/errors.ts';
import { fileError, syncDir, temporaryPath } from '../../host/files.ts';
import type { FreezeOptions, FrozenState } from '../driver.ts';
import { migrateWithoutMemory, runState } from './migration.ts';
import type { QmpClient } from './qmp.ts';
import { StateReceiver } from './state-receiver.ts';

export interface FreezePorts {
  readonly qmp: QmpClient;
  /** The file that is the guest's memory. */
  readonly memoryPath: string;
  /** Where to listen for the state; short enough for a socket. */
  readonly socketPath: string;
  /** Ends the process and waits until it is gone. */
  readonly end: () => Promise<void>;
}

/** Writing it takes some 10 ms; a busy host, or a guest whose disks have much to flush, takes longer. */
const SAVE_TIMEOUT_MS = 60_000;
const POLL_MS = 2;
/** Of what QEMU is asked while things go wrong already. */
const RESUME_TIMEOUT_MS = 2000;

/** Contract: Machine.freeze. Memory and process are checked by the caller. */
export async function freeze(ports: FreezePorts, options: FreezeOptions): Promise<FrozenState> {
  const { statePath, signal } = options;
  const temporary = temporaryPath(statePath);
  try {
    const saved = await saveTo(temporary, ports, signal);
    // Only now is the memory's file final, and only now may the state be found.
    await ports.end();
    await syncFile(ports.memoryPath);
    await rename(temporary, statePath);
    await syncDir(dirname(statePath));
    return { path: statePath, ...saved };
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw fileError(`cannot write ${statePath}`, error);
  }
}

type Saved = Omit<FrozenState, 'path'>;

async function saveTo(path: string, { qmp, socketPath }: FreezePorts, signal: AbortSignal): Promise<Saved> {
  await using file = await open(path, 'wx', 0o600);
  const before = await runState(qmp);
  if (before !== 'running' && before !== 'paused') {
    throw new BangerError('invalid_state', `the guest cannot be frozen: QEMU says it is "${before}"`);
  }
  try {
    await qmp.execute('stop', {}, SAVE_TIMEOUT_MS);
    return await receiveState(file, qmp, socketPath, signal);
  } catch (error) {
    if (before === 'running') await resume(qmp);
    throw error;
  }
}

async function receiveState(
  file: FileHandle,
  qmp: QmpClient,
  socketPath: string,
  signal: AbortSignal,
): Promise<Saved> {
  const status = await runState(qmp);
  if (status !== 'paused')
    throw new BangerError('vmm_failed', `QEMU stopped the guest, but says "${status}"`);
  const late = AbortSignal.timeout(SAVE_TIMEOUT_MS);
  const failed = new AbortController();
  const over = AbortSignal.any([signal, late, failed.signal]);
  await using receiver = await StateReceiver.listen(socketPath);
  try {
    const [saved] = await Promise.all([
      receiver.receive(file, over),
      migrateWithoutMemory(qmp, `unix:${socketPath}`, over),
    ]);
    await file.sync();
    return saved;
  } catch (error) {
    if (signal.aborted) throw new BangerError('cancelled', 'freezing the machine was cancelled');
    if (late.aborted) throw new BangerError('timeout', 'QEMU did not write its state within 60 s');
    throw error;
  } finally {
    failed.abort();
  }
}

/** Best effort: when QEMU does not answer any more, the reason why freezing failed says more. */
async function resume(qmp: QmpClient): Promise<void> {
  const until = performance.now() + RESUME_TIMEOUT_MS;
  try {
    await qmp.execute('migrate_cancel', {}, RESUME_TIMEOUT_MS);
    while ((await runState(qmp)) === 'finish-migrate' && performance.now() < until) await sleep(POLL_MS);
    await qmp.execute('cont', {}, RESUME_TIMEOUT_MS);
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
  }
}

async function syncFile(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}
