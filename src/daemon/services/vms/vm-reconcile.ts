/** Brings rows, processes and files together again after a daemon that ended, however it ended. */

import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../../core/errors.ts';
import { removeTree, sweepTemporaries } from '../../../host/files.ts';
import type { VmRecord, VmState } from '../../../core/model/vm.ts';
import { now } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { MachineRunState, VmmDriver } from '../../../vmm/driver.ts';
import { abandonable } from '../../abandonable.ts';
import { endStrayVmms } from '../../stray-vmm.ts';
import { readHandles, type VmFiles, vmFiles } from '../../vm-files.ts';
import { hasVmRecord, listVmDirs } from '../../vm-record-file.ts';
import { isHeld, unmarkHeld } from './held.ts';
import { LiveVm } from './live-vm.ts';
import { dropSavedMemory, hasRun, hasSavedMemory } from './saved-memory.ts';
import type { PortForwards } from '../ports/port-forwards.ts';
import type { VmLifecycle } from './vm-lifecycle.ts';
import { correctClock } from '../guests/guest-clock.ts';
import type { VmRegistry } from './vm-registry.ts';

/** Others have none by what the row says. */
const MAY_HAVE_A_VMM: ReadonlySet<VmState> = new Set([
  'starting',
  'running',
  'stopping',
  'paused',
  'saved',
  'error',
]);
/**
 * By what the row says they have none either; one that runs all the same was started after the moment the row is of:
 * the database was restored from a snapshot, or the row was made from vm.json.
 */
const MAY_BE_OLDER_THAN_ITS_VMM: ReadonlySet<VmState> = new Set(['created', 'stopped']);
const STOP_TIMEOUT_MS = 120_000;
/** What an adopted guest gets to tell since when it runs. */
const ADOPTION_TIMEOUT_MS = 2000;
/** A row in one of these is of the boot that runs. */
const OF_THIS_BOOT: ReadonlySet<VmState> = new Set(['running', 'paused', 'saved']);

export interface ReconcileDeps {
  readonly paths: BangerPaths;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly driver: VmmDriver;
  readonly forwards: PortForwards;
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
  const lost = await sweepVmDirs(deps);
  await sweepSocketDirs(deps, lost);
}

/** A damaged row cannot be written; it is listed in state `error` by itself. */
function noteTrouble({ registry, log }: ReconcileDeps, vm: VmRecord, error: unknown): void {
  try {
    registry.update(vm.id, 'error', { lastError: `could not be reconciled: ${errorText(error)}` });
  } catch (again) {
    log.error({ vm: vm.name, err: again }, 'could not note that in its row');
  }
}

async function reconcileOne(deps: ReconcileDeps, vm: VmRecord): Promise<void> {
  const { registry, lifecycle, driver, log } = deps;
  const files = registry.files(vm.id);
  const handles = await readHandles(files);
  const machine = handles === undefined ? undefined : await driver.adopt(handles);
  const live = machine === undefined ? undefined : new LiveVm(vm.id, machine, 'adopted');
  const goesOn = vm.state !== 'stopping' && (await hasSavedMemory(files));
  if (live !== undefined) lifecycle.watch(live);
  else if (MAY_HAVE_A_VMM.has(vm.state)) await endStrays(files, vm.name, log);
  const createdSince = vm.runtime.pending === 'create' && (await hasVmRecord(files.dir));
  if (vm.spec.ephemeral || (vm.runtime.pending !== undefined && !createdSince)) {
    log.info({ vm: vm.name, pending: vm.runtime.pending }, 'removing what was left unfinished');
    await lifecycle.remove(vm);
    return;
  }
  if (goesOn) {
    await staySaved(deps, vm);
  } else if (
    live !== undefined &&
    (createdSince || OF_THIS_BOOT.has(vm.state) || MAY_BE_OLDER_THAN_ITS_VMM.has(vm.state))
  ) {
    await adopt(deps, vm, live);
    // It went on from it.
    await dropSavedMemory(files);
  } else if (live !== undefined && vm.state === 'stopping') {
    log.info({ vm: vm.name, pid: live.machine.handles.pid }, 'found stopping');
    finishStop(lifecycle, vm, log);
  } else {
    await lifecycle.tearDown(vm);
    await settle(deps, vm, files, createdSince);
    await dropSavedMemory(files);
    await lifecycle.finishExchange(vm.id);
  }
  await mendRecord(deps, vm, files);
}

/**
 * The guest has not run since its memory was saved, so a process that is there was about to end, or had not begun. The row may
 * be older: a daemon ended just after the memory was written, or the database was restored.
 */
async function staySaved({ registry, lifecycle, forwards }: ReconcileDeps, vm: VmRecord): Promise<void> {
  await lifecycle.tearDown(vm);
  const saved = registry.update(vm.id, 'saved', { pending: undefined, stoppedAt: undefined });
  // Clients may come at once.
  const published = await forwards.reopen(saved);
  if (published.length > 0) registry.update(vm.id, 'saved', { published });
}

/** What the row says once it is known that nothing runs. */
async function settle(
  { registry }: ReconcileDeps,
  vm: VmRecord,
  files: VmFiles,
  createdSince: boolean,
): Promise<void> {
  const stoppedAt = now();
  if (createdSince) registry.update(vm.id, 'stopped', { stoppedAt, pending: undefined });
  else if (vm.state === 'stopping') registry.update(vm.id, 'stopped', { stoppedAt });
  else if (['starting', 'running', 'paused', 'saved'].includes(vm.state)) {
    // A first start that did not get as far as a disk: a stopped VM has one, see assertDisk in vm-lifecycle.ts.
    const never = vm.state === 'starting' && !existsSync(files.rootDisk);
    const lastError = vm.state === 'saved' ? await whyLost(files) : 'ended while no daemon was watching';
    registry.update(vm.id, never ? 'created' : 'stopped', { stoppedAt, lastError, heldBy: undefined });
  }
}

async function whyLost(files: VmFiles): Promise<string> {
  return (await hasRun(files))
    ? 'ended while it was going on from its saved memory'
    : 'its saved memory is gone; its disk is as it was';
}

/**
 * Takes a running or paused VM over as it is, and asks the guest what a row that is older than its boot cannot say.
 * A paused one cannot be asked: a row that says too little then does so until a later adoption.
 */
async function adopt(deps: ReconcileDeps, vm: VmRecord, live: LiveVm): Promise<void> {
  await adoptMachine(deps, vm, live);
  const published = await deps.forwards.reopen(vm);
  if (published.length > 0) deps.registry.update(vm.id, deps.registry.row(vm.id).state, { published });
}

async function adoptMachine(deps: ReconcileDeps, vm: VmRecord, live: LiveVm): Promise<void> {
  const { registry, log } = deps;
  const state = await goOnIfHeld(deps, vm, live, await runStateOf(deps, vm, live));
  log.info({ vm: vm.name, pid: live.machine.handles.pid, state: vm.state }, `found ${state}`);
  const stood = vm.state === 'paused' || vm.state === 'saved';
  if (stood && state === 'running') await setClockAgain(live, vm, log);
  const ofThisBoot = OF_THIS_BOOT.has(vm.state);
  const isKnown = ofThisBoot && vm.runtime.bootId !== undefined;
  if (vm.state === state && (isKnown || state === 'paused')) return;
  // The boot that an older row tells of is not the one that runs now.
  const boot = ofThisBoot ? {} : { bootId: undefined, startedAt: undefined, startedFrom: undefined };
  const ended = { pending: undefined, stoppedAt: undefined, lastError: undefined };
  const asked = isKnown || state === 'paused' ? {} : await bootOf(live);
  const held = state === 'running' ? { heldBy: undefined } : {};
  registry.update(vm.id, state, { ...ended, ...held, ...boot, ...asked });
}

/** A daemon ended while it copied a guest that it had stood still for that. */
async function goOnIfHeld(
  { registry, log }: ReconcileDeps,
  vm: VmRecord,
  live: LiveVm,
  state: MachineRunState,
): Promise<MachineRunState> {
  const files = registry.files(vm.id);
  if (!isHeld(files)) return state;
  if (state === 'paused') {
    log.warn({ vm: vm.name }, 'found held by a copy that did not come to its end; it goes on');
    await live.machine.resume();
    await unmarkHeld(files);
  }
  await setClockAgain(live, vm, log);
  return 'running';
}

/** By what is true, whatever the row says; by the row only when the VMM does not answer. */
async function runStateOf({ log }: ReconcileDeps, vm: VmRecord, live: LiveVm): Promise<MachineRunState> {
  try {
    return await abandonable(live.machine.runState(), AbortSignal.timeout(ADOPTION_TIMEOUT_MS));
  } catch (error) {
    log.warn({ vm: vm.name, err: error }, 'could not tell whether the guest stands still');
    return vm.state === 'paused' ? 'paused' : 'running';
  }
}

/** Of a guest that goes on: a daemon ended perhaps before its clock was set. */
async function setClockAgain(live: LiveVm, vm: VmRecord, log: Log): Promise<void> {
  try {
    await correctClock(live, ADOPTION_TIMEOUT_MS);
  } catch (error) {
    log.warn({ vm: vm.name, err: error }, "could not set the guest's clock after a resume");
  }
}

/** Nothing when the guest does not answer; that is noticed by whoever wants something of it. */
async function bootOf(live: LiveVm): Promise<{ readonly bootId?: string; readonly startedAt?: string }> {
  try {
    const signal = AbortSignal.timeout(ADOPTION_TIMEOUT_MS);
    const agent = await live.agent(signal, ADOPTION_TIMEOUT_MS);
    const { bootId, uptimeMs } = await agent.health(signal);
    return { bootId, startedAt: new Date(Date.now() - uptimeMs).toISOString() };
  } catch {
    return {};
  }
}

/** Only where the VM has files: a row restored without them gets none, lest it look as if they were here. */
async function mendRecord({ lifecycle, log }: ReconcileDeps, vm: VmRecord, files: VmFiles): Promise<void> {
  if (!existsSync(files.dir)) return;
  const swept = await sweepTemporaries(files.dir);
  if (swept.length > 0) log.info({ vm: vm.name, swept }, 'swept unfinished files');
  await lifecycle.keepRecord(vm);
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

/**
 * A crash fell between the end of a row and the end of its directory, or before the row's process was known. A
 * directory that still carries its record is none of these: its row was lost, and it is all that is left of a VM.
 * @returns the ids of such VMs, whose files and processes are left alone
 */
async function sweepVmDirs({ paths, registry, driver, log }: ReconcileDeps): Promise<readonly string[]> {
  const owned = new Set(registry.rows().map((vm) => vm.id));
  const lost: string[] = [];
  for (const { id, recorded } of await listVmDirs(paths.vmsDir)) {
    if (owned.has(id)) continue;
    const files = vmFiles(paths, id);
    const handles = await readHandles(files);
    const machine = handles === undefined ? undefined : await driver.adopt(handles);
    if (recorded) {
      lost.push(id);
      log.warn(
        { vm: id, dir: files.dir, pid: machine?.handles.pid },
        'a VM without a row is left alone; `banger state rebuild` brings its row back',
      );
      machine?.release();
      continue;
    }
    log.warn({ vm: id, pid: machine?.handles.pid }, 'sweeping a VM without a row');
    await machine?.kill();
    machine?.release();
    if (machine === undefined) await endStrays(files, id, log);
    await removeTree(files.dir, { below: paths.vmsDir });
  }
  return lost;
}

async function sweepSocketDirs(
  { paths, registry, log }: ReconcileDeps,
  lost: readonly string[],
): Promise<void> {
  const ids = [...registry.rows().map((vm) => vm.id), ...lost];
  const owned = new Set(ids.map((id) => registry.files(id).socketDir));
  for (const name of await readdir(paths.vmRuntimesDir)) {
    const dir = join(paths.vmRuntimesDir, name);
    if (!/^[0-9a-f]{12}$/.test(name) || owned.has(dir)) continue;
    log.warn({ dir }, 'sweeping a socket directory without a row');
    await removeTree(dir, { below: paths.vmRuntimesDir });
  }
}
