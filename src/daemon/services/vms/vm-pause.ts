/** A guest that stands still and goes on. What the services call expects the VM's lock to be held. */

import { BangerError, errorText } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { Machine, VmmDriver } from '../../../vmm/driver.ts';
import type { OperationHandle } from '../../operations.ts';
import { correctClock } from '../guests/guest-clock.ts';
import { unmarkHeld } from './held.ts';
import { dropSavedMemory } from './saved-memory.ts';
import type { VmRegistry } from './vm-registry.ts';

export class VmPause {
  readonly #registry: VmRegistry;
  readonly #driver: VmmDriver;

  constructor(deps: { registry: VmRegistry; driver: VmmDriver }) {
    this.#registry = deps.registry;
    this.#driver = deps.driver;
  }

  /**
   * The row says `paused` after the machine does: a daemon that ends in between leaves a row that the next one corrects.
   * @throws {BangerError} `unsupported`, `vmm_failed`, `timeout`; the VM is then as it was
   */
  async pause(vm: VmRecord, heldBy: 'user' | 'idle', operation: OperationHandle): Promise<VmRecord> {
    if (!this.#driver.capabilities.canPause) {
      throw new BangerError('unsupported', `VMs of ${this.#driver.name} cannot be paused`, {
        hint: `banger vm stop ${vm.name}`,
      });
    }
    if (heldBy === 'user') this.#registry.touch(vm.id);
    const live = this.#registry.liveOf(vm, 'pause');
    operation.progress({ step: 'pause', text: `pausing ${vm.name}` });
    try {
      await live.machine.pause();
    } catch (error) {
      // It may yet come to stand still; the row says that it runs.
      if (vm.state === 'running') await live.machine.resume().catch(() => undefined);
      throw error;
    }
    await unmarkHeld(this.#registry.files(vm.id));
    return this.#registry.update(vm.id, 'paused', { heldBy });
  }

  /**
   * Nobody can run a command before the clock is right, unless it cannot be set.
   * @throws {BangerError} `vmm_failed`, `timeout`: it stays paused; `guest_failed`: it goes on with a wrong clock
   */
  async resume(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { live } = this.#registry.running(vm.id, 'resume');
    operation.progress({ step: 'resume', text: `resuming ${vm.name}` });
    // Left there by a save that failed, it would not fit the disks any more.
    await dropSavedMemory(this.#registry.files(vm.id));
    await live.machine.resume();
    await unmarkHeld(this.#registry.files(vm.id));
    try {
      await correctClock(live);
    } catch (cause) {
      const message = `VM "${vm.name}" goes on, but its clock could not be set: ${errorText(cause)}`;
      throw new BangerError('guest_failed', message, {
        hint: `banger vm resume ${vm.name} tries again`,
        cause,
      });
    } finally {
      this.#registry.update(vm.id, 'running', { heldBy: undefined });
    }
    return this.#registry.row(vm.id);
  }
}

/** Whatever the row says: a machine that stands still goes on. @returns whether it stood */
export async function wake(machine: Machine): Promise<boolean> {
  if ((await machine.runState()) === 'running') return false;
  await machine.resume();
  return true;
}
