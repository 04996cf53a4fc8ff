/**
 * Lets VMs that nobody uses cost nothing: after a while they stand still in memory, after a longer one their memory is on disk
 * and their process gone. Whoever uses them wakes them.
 *
 * In use is a VM with a command under way, with traffic on a published port, whose VMM takes CPU time, or in which a program holds
 * a lease (docs/idle.md).
 */

import { BangerError } from '../core/errors.ts';
import type { VmRecord } from '../core/model/vm.ts';
import { type ProcessUsage, processUsage } from '../host/proc.ts';
import type { Log } from '../host/log.ts';
import type { OperationHandle } from './operations.ts';
import type { LiveVm } from './services/vms/live-vm.ts';
import type { PortForwards } from './services/ports/port-forwards.ts';
import type { VmLifecycle } from './services/vms/vm-lifecycle.ts';
import type { VmPause } from './services/vms/vm-pause.ts';
import type { VmRegistry } from './services/vms/vm-registry.ts';
import { isAsleep, type VmSleep } from './services/vms/vm-sleep.ts';

/** A guest that does nothing takes 1 to 2 % of a CPU under emulation, and next to nothing with KVM. */
const BUSY_CPU_SHARE = 0.05;
const HEALTH_TIMEOUT_MS = 5000;
const SAVE_TIMEOUT_MS = 300_000;
/** Whoever has a VM's lock for longer uses it. */
const LOCK_TIMEOUT_MS = 1000;

export interface IdleOptions {
  readonly registry: VmRegistry;
  readonly lifecycle: Pick<VmLifecycle, 'locked'>;
  readonly pause: Pick<VmPause, 'pause' | 'resume'>;
  readonly sleep: Pick<VmSleep, 'save'>;
  readonly forwards: Pick<PortForwards, 'traffic'>;
  readonly log: Log;
  /** 0: never. */
  readonly pauseAfterMs: number;
  readonly saveAfterMs: number;
  /** Default: the host's clocks, and what the kernel says of a process. */
  readonly host?: IdleHost;
}

export interface IdleHost {
  readonly wallMs: () => number;
  /** As `performance.now`. */
  readonly monotonicMs: () => number;
  readonly usageOf: (pid: number) => ProcessUsage | undefined;
}

const THIS_HOST: IdleHost = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  usageOf: processUsage,
};

interface Sample {
  readonly pid: number;
  readonly cpuMs: number;
  readonly atMs: number;
}

export class IdleKeeper {
  readonly #options: IdleOptions;
  readonly #host: IdleHost;
  readonly #samples = new Map<string, Sample>();
  /** When a VM was last seen at work, beyond what its row says. */
  readonly #seenAtWork = new Map<string, number>();

  constructor(options: IdleOptions) {
    this.#options = options;
    this.#host = options.host ?? THIS_HOST;
  }

  /**
   * One look at every VM. One that cannot be put to sleep does not keep the others awake. What the signal breaks off leaves its
   * VM awake.
   */
  async round(stop: AbortSignal): Promise<void> {
    const { registry, log } = this.#options;
    const rows = registry.rows();
    const known = new Set(rows.map(({ id }) => id));
    for (const map of [this.#samples, this.#seenAtWork]) {
      for (const id of map.keys()) if (!known.has(id)) map.delete(id);
    }
    for (const { id } of rows) {
      // A round may take long.
      const vm = registry.find(id);
      if (vm === undefined || stop.aborted) continue;
      try {
        if (vm.state === 'running') await this.#lookAtRunning(vm, stop);
        else if (isAsleep(vm) && vm.state === 'paused') await this.#lookAtPaused(vm, stop);
      } catch (error) {
        if (stop.aborted) return;
        log.warn({ vm: vm.name, err: error }, 'could not put a VM to sleep');
        // Not again at once: whatever it is may last.
        this.#seenAtWork.set(vm.id, this.#host.wallMs());
      }
    }
  }

  async #lookAtRunning(vm: VmRecord, stop: AbortSignal): Promise<void> {
    const { registry, pauseAfterMs, saveAfterMs } = this.#options;
    const live = registry.live(vm.id);
    if (live === undefined) return;
    if (live.isBusy || this.#takesCpuTime(live)) this.#seenAtWork.set(vm.id, this.#host.wallMs());
    const idleMs = this.#idleMs(vm);
    const due = dueOf(idleMs, pauseAfterMs, this.#canBeSaved(vm) ? saveAfterMs : 0);
    if (due === undefined) return;
    if (await holdsLease(live)) {
      this.#seenAtWork.set(vm.id, this.#host.wallMs());
      return;
    }
    await this.#putToSleep(vm, due, stop);
  }

  async #lookAtPaused(vm: VmRecord, stop: AbortSignal): Promise<void> {
    const { saveAfterMs } = this.#options;
    const idleMs = this.#idleMs(vm);
    if (saveAfterMs > 0 && idleMs >= saveAfterMs && this.#canBeSaved(vm))
      await this.#putToSleep(vm, 'save', stop);
  }

  async #putToSleep(before: VmRecord, how: 'pause' | 'save', stop: AbortSignal): Promise<void> {
    const { registry, lifecycle, forwards, log } = this.#options;
    const { id } = before;
    const lockTimeout = AbortSignal.timeout(LOCK_TIMEOUT_MS);
    try {
      await lifecycle.locked(id, AbortSignal.any([stop, lockTimeout]), async () => {
        // What was true a moment ago may have changed while this waited for the lock.
        const vm = registry.find(id);
        if (vm?.state !== before.state || vm.lastTouchedAt !== before.lastTouchedAt || !this.#isDue(vm, how))
          return;
        const { lastTrafficAtMs } = forwards.traffic(id);
        const isUsed = (): boolean =>
          registry.live(id)?.isBusy === true ||
          registry.find(id)?.lastTouchedAt !== vm.lastTouchedAt ||
          forwards.traffic(id).lastTrafficAtMs !== lastTrafficAtMs;
        const idleMs = this.#idleMs(vm);
        const { state } =
          how === 'save' ? await this.#save(vm, isUsed, stop) : await this.#pause(vm, isUsed, stop);
        if (state !== before.state) log.info({ vm: vm.name, idleMs, how }, 'nobody uses it: put to sleep');
      });
    } catch (error) {
      const isInUse = error instanceof BangerError && error.code === 'cancelled' && lockTimeout.aborted;
      if (!isInUse) throw error;
    }
  }

  async #save(vm: VmRecord, isUsed: () => boolean, stop: AbortSignal): Promise<VmRecord> {
    const signal = AbortSignal.any([stop, AbortSignal.timeout(SAVE_TIMEOUT_MS)]);
    return await this.#options.sleep.save(vm, 'idle', quietly(signal), isUsed);
  }

  /** Who began to use it just before it stood still has not seen it stand, and so does not wake it. */
  async #pause(vm: VmRecord, isUsed: () => boolean, stop: AbortSignal): Promise<VmRecord> {
    const { pause } = this.#options;
    const paused = await pause.pause(vm, 'idle', quietly(stop));
    return isUsed() ? await pause.resume(paused, quietly(stop)) : paused;
  }

  /** Whether it may be put to sleep now. */
  #isDue(vm: VmRecord, how: 'pause' | 'save'): boolean {
    const { registry, pauseAfterMs, saveAfterMs } = this.#options;
    const live = registry.live(vm.id);
    if (live === undefined || live.isBusy) return false;
    const idleMs = this.#idleMs(vm);
    return how === 'pause' ? idleMs >= pauseAfterMs : idleMs >= saveAfterMs && this.#canBeSaved(vm);
  }

  /** Connections through published ports outlive a pause, but not the process. */
  #canBeSaved(vm: VmRecord): boolean {
    return this.#options.forwards.traffic(vm.id).openConnections === 0;
  }

  #idleMs(vm: VmRecord): number {
    const { lastTrafficAtMs } = this.#options.forwards.traffic(vm.id);
    const withoutTrafficMs =
      lastTrafficAtMs === undefined ? Number.POSITIVE_INFINITY : this.#host.monotonicMs() - lastTrafficAtMs;
    const usedAt = Math.max(Date.parse(vm.lastTouchedAt), this.#seenAtWork.get(vm.id) ?? 0);
    return Math.min(this.#host.wallMs() - usedAt, withoutTrafficMs);
  }

  /** Since the last look; the first one counts as work, since nothing is known of the time before. */
  #takesCpuTime({ id, machine: { handles } }: LiveVm): boolean {
    const { pid } = handles;
    const usage = this.#host.usageOf(pid);
    const before = this.#samples.get(id);
    if (usage === undefined) return false;
    const sample = { pid, cpuMs: usage.cpuMs, atMs: this.#host.monotonicMs() };
    this.#samples.set(id, sample);
    if (before?.pid !== pid) return true;
    return sample.cpuMs - before.cpuMs > (sample.atMs - before.atMs) * BUSY_CPU_SHARE;
  }
}

function quietly(signal: AbortSignal): OperationHandle {
  return { signal, progress: () => undefined, about: () => undefined };
}

function dueOf(idleMs: number, pauseAfterMs: number, saveAfterMs: number): 'pause' | 'save' | undefined {
  if (saveAfterMs > 0 && idleMs >= saveAfterMs) return 'save';
  return pauseAfterMs > 0 && idleMs >= pauseAfterMs ? 'pause' : undefined;
}

/** A guest that does not answer is left alone. */
async function holdsLease(live: LiveVm): Promise<boolean> {
  const signal = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
  const agent = await live.agent(signal, HEALTH_TIMEOUT_MS);
  return (await agent.health(signal)).leases > 0;
}
