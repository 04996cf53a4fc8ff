/**
 * VMs that stand still because nobody uses them, and go on when somebody does: first in memory (`paused`), later on disk
 * (`saved`). What is called with a VM's row expects its lock to be held.
 */

import { BangerError, errorText } from '../../../core/errors.ts';
import type { VmAction } from '../../../core/lifecycle.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { now } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import type { VmmDriver } from '../../../vmm/driver.ts';
import { abandonable } from '../../abandonable.ts';
import type { OperationHandle } from '../../operations.ts';
import type { ImageService } from '../images/image-service.ts';
import type { LiveVm } from './live-vm.ts';
import type { FileVerifier } from '../images/file-verifier.ts';
import {
  dropSavedMemory,
  findSavedMemory,
  hasRun,
  hasSavedMemory,
  markAsRan,
  type SavedMemory,
  saveMemory,
} from './saved-memory.ts';
import type { VmLifecycle } from './vm-lifecycle.ts';
import type { VmPause } from './vm-pause.ts';
import type { VmRegistry } from './vm-registry.ts';

const WAKE_TIMEOUT_MS = 120_000;

export interface VmSleepDeps {
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly pause: VmPause;
  readonly images: ImageService;
  readonly verifier: FileVerifier;
  readonly driver: VmmDriver;
  readonly runner: CommandRunner;
  readonly log: Log;
}

export class VmSleep {
  readonly #deps: VmSleepDeps;
  readonly #waking = new Map<string, Promise<LiveVm>>();

  constructor(deps: VmSleepDeps) {
    this.#deps = deps;
  }

  /**
   * Writes the memory of a running or paused VM to disk and ends its process. When it fails, or somebody wants the VM
   * meanwhile, it is as it was.
   * @param isUsed asked while it stands still and nothing is lost yet, beside whether somebody waits for it
   * @throws {BangerError} `unsupported`, `in_use` (a command runs in it), `no_space`, `vmm_failed`, `timeout`, `cancelled`
   */
  async save(
    vm: VmRecord,
    heldBy: 'user' | 'idle',
    operation: OperationHandle,
    isUsed: () => boolean = () => false,
  ): Promise<VmRecord> {
    const isWanted = (): boolean => isUsed() || this.isAwaited(vm.id);
    const { registry, lifecycle, pause } = this.#deps;
    if (vm.state === 'saved') return registry.update(vm.id, 'saved', { heldBy });
    const live = this.#savable(vm);
    const wasRunning = vm.state === 'running';
    if (wasRunning) await pause.pause(vm, heldBy, operation);
    let saved: VmRecord | undefined;
    try {
      if (!isWanted()) await this.#write(vm, live, wasRunning, operation);
      if (!isWanted()) saved = registry.update(vm.id, 'saved', { heldBy });
    } finally {
      if (saved === undefined) await this.#asItWas(vm, wasRunning, operation);
    }
    // From here on the memory on disk is what counts.
    if (saved !== undefined) await lifecycle.endProcess(saved);
    return saved ?? registry.row(vm.id);
  }

  /** @throws {BangerError} `unsupported`, `in_use`, `invalid_state` */
  #savable(vm: VmRecord): LiveVm {
    const { registry, driver } = this.#deps;
    if (!driver.capabilities.canSave) {
      throw new BangerError('unsupported', `VMs of ${driver.name} cannot be saved`, {
        hint: `banger vm stop ${vm.name}`,
      });
    }
    const live = registry.liveOf(vm, 'pause');
    if (!live.isBusy) return live;
    throw new BangerError('in_use', `a command runs in VM "${vm.name}", and would end`, {
      hint: `wait for it, or let the VM stand still in memory: banger vm pause ${vm.name}`,
    });
  }

  async #write(
    vm: VmRecord,
    live: LiveVm,
    hasJustStopped: boolean,
    operation: OperationHandle,
  ): Promise<void> {
    const { registry, runner, verifier } = this.#deps;
    operation.progress({ step: 'save', text: `saving the memory of ${vm.name}` });
    const { memoryMib, diskSizeBytes } = vm.spec;
    const about = { name: vm.name, memoryMib, diskSizeBytes };
    const files = registry.files(vm.id);
    try {
      await saveMemory(live.machine, about, files, runner, operation.signal);
    } catch (error) {
      if (hasJustStopped || !isCode(error, 'invalid_state')) throw error;
      // It can be saved once for each time it stands still, and a snapshot or a save that failed has done so.
      await live.machine.resume();
      await live.machine.pause();
      await saveMemory(live.machine, about, files, runner, operation.signal);
    }
    // It was read for its digest just now: who wakes it need not wait for that again.
    const saved = await findSavedMemory(files, vm.name);
    if (saved !== undefined) await verifier.trust(saved.memory);
  }

  /** Best effort: why it was not saved says more. */
  async #asItWas(vm: VmRecord, wasRunning: boolean, operation: OperationHandle): Promise<void> {
    const { registry, pause, log } = this.#deps;
    try {
      await dropSavedMemory(registry.files(vm.id));
      if (wasRunning) await pause.resume(registry.row(vm.id), operation);
    } catch (error) {
      log.warn({ vm: vm.name, err: error }, 'a VM that was not saved is not as it was');
    }
  }

  /**
   * A VM that was saved goes on. When its memory cannot be used, it is booted instead, with the disk as it was, and its row
   * says why. Cannot be cancelled once its memory is known to be whole: nobody who gives up may cost it that.
   * @throws {BangerError} what a boot throws; `unsupported` (the VMM or the kernel is another one now), `vmm_failed`,
   *   `no_space` … before its guest ran: it stays saved
   */
  async goOn(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { registry, lifecycle, images, verifier, log } = this.#deps;
    const files = registry.files(vm.id);
    const image = await images.ensure(vm.spec.imageName, operation);
    // One that could not be ended when it was saved.
    await lifecycle.endProcess(vm);
    const saved = await this.#whole(vm, operation.signal);
    if (typeof saved === 'string') return await this.#bootInstead(vm, saved, operation);
    try {
      const beforeRun = (): Promise<void> => markAsRan(files);
      const from = { frozen: saved.frozen, identity: 'kept', beforeRun } as const;
      await lifecycle.goOn(vm, image, from, { ...operation, signal: AbortSignal.timeout(WAKE_TIMEOUT_MS) });
    } catch (error) {
      const isLost = (await hasRun(files)) || isCode(error, 'verify_failed');
      if (!isLost) throw cannotGoOn(vm, error);
      log.error({ vm: vm.name, err: error }, 'a saved VM could not go on; booting it');
      return await this.#bootInstead(vm, errorText(error), operation);
    }
    const running = registry.update(vm.id, 'running', { heldBy: undefined });
    await dropSavedMemory(files).catch((error: unknown) => {
      log.warn({ vm: vm.name, err: error }, 'could not remove the memory that a VM went on from');
    });
    verifier.forget(saved.memory);
    return running;
  }

  /** What it can go on from, or why it never can. @throws {BangerError} `cancelled`, `io_error` … (it cannot be read now) */
  async #whole(vm: VmRecord, signal: AbortSignal): Promise<SavedMemory | string> {
    const { registry, verifier } = this.#deps;
    const files = registry.files(vm.id);
    if (await hasRun(files)) return 'it ended while it was going on from it';
    if (!(await hasSavedMemory(files))) return 'it is gone';
    try {
      const saved = await findSavedMemory(files, vm.name);
      if (saved === undefined) return 'it is gone';
      await verifier.verify(saved.memory, signal);
      return saved;
    } catch (error) {
      if (isDamage(error)) return errorText(error);
      throw cannotGoOn(vm, error);
    }
  }

  /**
   * The VM, which goes on first if it stands still because nobody used it. Those who want it at once share that.
   * @param by what wants it, for people
   * @throws {BangerError} `invalid_state`, `not_found`, what going on throws, `cancelled`
   */
  async awake(vmId: string, by: string, signal: AbortSignal): Promise<LiveVm> {
    const { registry } = this.#deps;
    const live = registry.live(vmId);
    if (live !== undefined && registry.row(vmId).state === 'running') return live;
    let waking = this.#waking.get(vmId);
    if (waking === undefined) {
      waking = this.#wake(vmId, by).finally(() => this.#waking.delete(vmId));
      this.#waking.set(vmId, waking);
    }
    return await abandonable(waking, signal);
  }

  /** Whether somebody wants it to go on, and does not have it yet. */
  isAwaited(vmId: string): boolean {
    return this.#waking.has(vmId);
  }

  /** Until nobody waits any more: what has begun to go on does so before the daemon leaves. Never rejects. */
  async settle(): Promise<void> {
    await Promise.allSettled([...this.#waking.values()]);
  }

  /** The VM a reference means, running, and marked as touched. @throws {BangerError} as `awake`; `not_found` */
  async running(ref: string, action: VmAction, signal: AbortSignal) {
    const id = await this.rouse(ref, action, signal);
    return this.#deps.registry.running(id, action);
  }

  /** Wakes the VM a reference means if it sleeps, and leaves it as it is otherwise. @returns its id @throws {BangerError} as `running` */
  async rouse(ref: string, by: VmAction, signal: AbortSignal): Promise<string> {
    const vm = this.#deps.registry.resolve(ref);
    if (isAsleep(vm)) await this.awake(vm.id, by, signal);
    return vm.id;
  }

  async #wake(vmId: string, by: string): Promise<LiveVm> {
    const { registry, lifecycle, pause, log } = this.#deps;
    const began = performance.now();
    const signal = AbortSignal.timeout(WAKE_TIMEOUT_MS);
    const operation: OperationHandle = { signal, progress: () => undefined, about: () => undefined };
    await lifecycle.locked(vmId, signal, async () => {
      const vm = registry.row(vmId);
      if (!isAsleep(vm)) return;
      await (vm.state === 'saved' ? this.goOn(vm, operation) : pause.resume(vm, operation));
      const durationMs = Math.round(performance.now() - began);
      log.info({ vm: vm.name, from: vm.state, by, durationMs }, 'woken');
      registry.update(vmId, 'running', { woken: { at: now(), by, durationMs } });
    });
    return registry.running(vmId, 'exec').live;
  }

  async #bootInstead(vm: VmRecord, why: string, operation: OperationHandle): Promise<VmRecord> {
    const { registry, lifecycle } = this.#deps;
    await dropSavedMemory(registry.files(vm.id));
    const lost = `it was booted instead of going on from its saved memory: ${why}`;
    const stopped = registry.update(vm.id, 'stopped', { heldBy: undefined, lastError: lost });
    await lifecycle.startAgain(stopped, operation);
    return registry.update(vm.id, 'running', { lastError: lost });
  }
}

function isCode(error: unknown, code: BangerError['code']): boolean {
  return error instanceof BangerError && error.code === code;
}

/** Rather than a host on which something cannot be read at the moment. */
function isDamage(error: unknown): boolean {
  if (!(error instanceof BangerError)) return false;
  if (error.code === 'io_error')
    return (error.cause as NodeJS.ErrnoException | undefined)?.code === undefined;
  return ['verify_failed', 'limit_exceeded', 'invalid_state'].includes(error.code);
}

function cannotGoOn({ name }: VmRecord, error: unknown): unknown {
  if (!(error instanceof BangerError) || error.code === 'cancelled') return error;
  const message = `VM "${name}" cannot go on from its saved memory: ${error.message}`;
  return new BangerError(error.code, message, {
    hint: `banger vm kill ${name} gives that memory up, and banger vm start ${name} then boots it from its disk`,
    cause: error,
  });
}

/** It stands still because nobody used it. */
export function isAsleep({ state, runtime }: VmRecord): boolean {
  return (state === 'paused' || state === 'saved') && runtime.heldBy === 'idle';
}
