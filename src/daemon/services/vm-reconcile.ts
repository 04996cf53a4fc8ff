/** Brings rows, processes and files together again after a daemon that ended, however it ended. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../core/errors.ts';
import { removeTree } from '../../host/files.ts';
import type { VmRecord, VmState } from '../../core/model/vm.ts';
import { now } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { BangerPaths } from '../../host/paths.ts';
import type { VmmDriver } from '../../vmm/driver.ts';
import { endStrayVmms } from '../stray-vmm.ts';
import { readHandles, type VmFiles, vmFiles } from '../vm-files.ts';
import { LiveVm } from './live-vm.ts';
import type { VmLifecycle } from './vm-lifecycle.ts';
import type { VmRegistry } from './vm-registry.ts';

/** Others have none by what the row says. */
const MAY_HAVE_A_VMM: ReadonlySet<VmState> = new Set(['starting', 'running', 'stopping', 'paused', 'error']);
const STOP_TIMEOUT_MS = 120_000;

export interface ReconcileDeps {
  readonly paths: BangerPaths;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly driver: VmmDriver;
  readonly log: Log;
}

/** Runs before the daemon serves anyone, so no lock is needed. One VM that cannot be reconciled does not stop the rest. */
export async function reconcile(deps: ReconcileDeps): Promise<void> {
  await Promise.all(
    deps.registry.rows().map(async (vm) => {
      try {
        await reconcileOne(deps, vm);
      } catch (error) {
        deps.log.error({ vm: vm.name, err: error }, 'could not reconcile');
        noteTrouble(deps, vm, error);
      }
    }),
  );
  await sweepVmDirs(deps);
  await sweepSocketDirs(deps);
}

/** A damaged row cannot be written; it is listed in state `error` by itself. */
function noteTrouble({ registry, log }: ReconcileDeps, vm: VmRecord, error: unknown): void {
  try {
    registry.update(vm.id, 'error', { lastError: `could not be reconciled: ${errorText(error)}` });
  } catch (again) {
    log.error({ vm: vm.name, err: again }, 'could not note that in its row');
  }
}

async function reconcileOne(
  { registry, lifecycle, driver, log }: ReconcileDeps,
  vm: VmRecord,
): Promise<void> {
  const files = registry.files(vm.id);
  const handles = await readHandles(files);
  const machine = handles === undefined ? undefined : await driver.adopt(handles);
  if (machine !== undefined) lifecycle.watch(new LiveVm(vm.id, machine));
  else if (MAY_HAVE_A_VMM.has(vm.state)) await endStrays(files, vm.name, log);
  if (vm.spec.ephemeral || vm.runtime.pending !== undefined) {
    log.info({ vm: vm.name, pending: vm.runtime.pending }, 'removing what was left unfinished');
    await lifecycle.remove(vm);
    return;
  }
  if (machine !== undefined && vm.state === 'running') {
    log.info({ vm: vm.name, pid: machine.handles.pid }, 'found running');
    return;
  }
  if (machine !== undefined && vm.state === 'stopping') {
    log.info({ vm: vm.name, pid: machine.handles.pid }, 'found stopping');
    finishStop(lifecycle, vm, log);
    return;
  }
  await lifecycle.tearDown(vm);
  if (vm.state === 'stopping') registry.update(vm.id, 'stopped', { stoppedAt: now() });
  else if (['starting', 'running', 'paused'].includes(vm.state)) {
    registry.update(vm.id, 'stopped', { stoppedAt: now(), lastError: 'ended while no daemon was watching' });
  }
}

/** What the guest has not written yet must not be lost. It has the lock before any client, and nobody waits for it. */
function finishStop(lifecycle: VmLifecycle, vm: VmRecord, log: Log): void {
  const signal = AbortSignal.timeout(STOP_TIMEOUT_MS);
  const unwatched = { signal, progress: () => undefined, about: () => undefined };
  lifecycle
    .locked(vm.id, signal, () => lifecycle.end(vm, 'gracefully', unwatched))
    .catch((error: unknown) => log.error({ vm: vm.name, err: error }, 'could not finish a stop'));
}

async function endStrays(files: VmFiles, vm: string, log: Log): Promise<void> {
  const pids = await endStrayVmms(files.socketDir);
  if (pids.length > 0) log.warn({ vm, pids }, 'ended a VMM that was not written down');
}

/** A crash fell between the end of a row and the end of its directory, or before the row's process was known. */
async function sweepVmDirs({ paths, registry, driver, log }: ReconcileDeps): Promise<void> {
  const owned = new Set(registry.rows().map((vm) => vm.id));
  for (const id of await readdir(paths.vmsDir)) {
    if (!/^[0-9a-f]{32}$/.test(id) || owned.has(id)) continue;
    const files = vmFiles(paths, id);
    const handles = await readHandles(files);
    const machine = handles === undefined ? undefined : await driver.adopt(handles);
    log.warn({ vm: id, pid: machine?.handles.pid }, 'sweeping a VM without a row');
    await machine?.kill();
    machine?.release();
    if (machine === undefined) await endStrays(files, id, log);
    await removeTree(files.dir, { below: paths.vmsDir });
  }
}

async function sweepSocketDirs({ paths, registry, log }: ReconcileDeps): Promise<void> {
  const owned = new Set(registry.rows().map((vm) => registry.files(vm.id).socketDir));
  for (const name of await readdir(paths.vmRuntimesDir)) {
    const dir = join(paths.vmRuntimesDir, name);
    if (!/^[0-9a-f]{12}$/.test(name) || owned.has(dir)) continue;
    log.warn({ dir }, 'sweeping a socket directory without a row');
    await removeTree(dir, { below: paths.vmRuntimesDir });
  }
}
