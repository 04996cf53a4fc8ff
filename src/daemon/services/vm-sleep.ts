/**
 * VMs that stand still because nobody uses them, and go on when somebody does: first in memory (`paused`), later on disk
 * (`saved`). What is called with a VM's row expects its lock to be held.
 */

import { BangerError, errorText } from '../../core/errors.ts';
import type { VmAction } from '../../core/lifecycle.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import { now } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { CommandRunner } from '../../host/runner.ts';
import type { VmmDriver } from '../../vmm/driver.ts';
import { abandonable } from '../abandonable.ts';
import type { OperationHandle } from '../operations.ts';
import type { ImageService } from './image-service.ts';
import type { LiveVm } from './live-vm.ts';
import type { FileVerifier } from './file-verifier.ts';
import { dropSavedMemory, findSavedMemory, markAsRan, saveMemory } from './saved-memory.ts';
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
   * Writes the memory of a running or paused VM to disk and ends its process. When it fails the VM is as it was.
   * @throws {BangerError} `unsupported`, `in_use` (a command runs in it), `no_space`, `vmm_failed`, `timeout`, `cancelled`
   */
  async save(vm: VmRecord, heldBy: 'user' | 'idle', operation: OperationHandle): Promise<VmRecord> {
    const { registry, lifecycle, pause, driver, runner } = this.#deps;
    const { signal } = operation;
    if (vm.state === 'saved') return registry.update(vm.id, 'saved', { heldBy });
    if (!driver.capabilities.canSave) {
      throw new BangerError('unsupported', `VMs of ${driver.name} cannot be saved`, {
        hint: `banger vm stop ${vm.name}`,
      });
    }
    const live = registry.liveOf(vm, 'pause');
    if (live.isBusy) {
      throw new BangerError('in_use', `a command runs in VM "${vm.name}", and would end`, {
        hint: `wait for it, or let the VM stand still in memory: banger vm pause ${vm.name}`,
      });
    }
    const wasRunning = vm.state === 'running';
    if (wasRunning) await pause.pause(vm, heldBy, operation);
    operation.progress({ step: 'save', text: `saving the memory of ${vm.name}` });
    const { memoryMib, diskSizeBytes } = vm.spec;
    try {
      await saveMemory(
        live.machine,
        { name: vm.name, memoryMib, diskSizeBytes },
        registry.files(vm.id),
        runner,
        signal,
      );
    } catch (error) {
      if (wasRunning) await pause.resume(registry.row(vm.id), operation);
      throw error;
    }
    const saved = registry.update(vm.id, 'saved', { heldBy });
    await lifecycle.endProcess(saved);
    return saved;
  }

  /**
   * A VM that was saved goes on. When its memory cannot be used, it is booted instead, with the disk as it was, and its row says why.
   * @throws {BangerError} what a boot throws; `unsupported` (the VMM or the kernel is another one now): it stays saved
   */
  async goOn(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { registry, lifecycle, images, verifier, log } = this.#deps;
    const files = registry.files(vm.id);
    const image = await images.ensure(vm.spec.imageName, operation);
    const saved = await findSavedMemory(files, vm.name);
    if (saved === undefined) return await this.#bootInstead(vm, 'its saved memory is gone', operation);
    try {
      await verifier.verify(saved.memory, operation.signal);
      const beforeRun = (): Promise<void> => markAsRan(files);
      await lifecycle.goOn(vm, image, { frozen: saved.frozen, identity: 'kept', beforeRun }, operation);
    } catch (error) {
      const isUntouched = (await findSavedMemory(files, vm.name).catch(() => undefined)) !== undefined;
      const isLost = error instanceof BangerError && error.code === 'verify_failed';
      if (isUntouched && !isLost) {
        registry.update(vm.id, 'saved', { heldBy: vm.runtime.heldBy });
        throw error;
      }
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

  /** The VM a reference means, running, and marked as touched. @throws {BangerError} as `awake`; `not_found` */
  async running(ref: string, action: VmAction, signal: AbortSignal) {
    const { registry } = this.#deps;
    const vm = registry.resolve(ref);
    if (isAsleep(vm)) await this.awake(vm.id, action, signal);
    return registry.running(vm.id, action);
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

/** It stands still because nobody used it. */
export function isAsleep({ state, runtime }: VmRecord): boolean {
  return (state === 'paused' || state === 'saved') && runtime.heldBy === 'idle';
}
