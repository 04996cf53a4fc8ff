/** A guest that stands still and goes on. What the services call expects the VM's lock to be held. */

import { BangerError, errorText } from '../../core/errors.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import type { AgentClient } from '../../guest/agent-client.ts';
import type { Machine, VmmDriver } from '../../vmm/driver.ts';
import type { OperationHandle } from '../operations.ts';
import { unmarkHeld } from './held.ts';
import type { LiveVm } from './live-vm.ts';
import { dropSavedMemory } from './saved-memory.ts';
import type { VmRegistry } from './vm-registry.ts';

const CLOCK_TIMEOUT_MS = 10_000;
const NS_PER_MS = 1_000_000n;
const CLOCK_TRIES = 5;
/** There and back. */
const CLOCK_TRIP_MS = 20;

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

/** @throws {BangerError} what `LiveVm.agent` and the agent's CLOCK throw */
export async function correctClock(live: LiveVm, timeoutMs: number = CLOCK_TIMEOUT_MS): Promise<void> {
  const signal = AbortSignal.timeout(timeoutMs);
  await setGuestClock(await live.agent(signal, timeoutMs), signal);
}

/**
 * The guest's wall clock stood still with it. What it is set to is old by what the way there took, which on a busy host, or
 * with code that runs for the first time under emulation, can be long: then it is set again.
 */
export async function setGuestClock(agent: AgentClient, signal: AbortSignal): Promise<void> {
  for (let tries = 1; tries <= CLOCK_TRIES; tries += 1) {
    const sent = performance.now();
    await agent.setClock(BigInt(Date.now()) * NS_PER_MS, signal);
    if (performance.now() - sent <= CLOCK_TRIP_MS) return;
  }
}
