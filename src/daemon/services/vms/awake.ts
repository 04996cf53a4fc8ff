/** Waiting for a VM until it can be talked to. */

import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../../core/errors.ts';
import type { VmState } from '../../../core/model/vm.ts';
import type { LiveVm } from './live-vm.ts';
import type { VmRegistry } from './vm-registry.ts';
import { isAsleep } from './vm-sleep.ts';

/**
 * Resolves with the VM once it runs, however long that takes: somebody waits for it. Called often while it does run.
 * @throws {BangerError} `invalid_state`: it does not, and is not about to; `not_found`: it is gone. What the signal's abort throws
 */
export type Awake = (vmId: string, signal: AbortSignal) => Promise<LiveVm>;

const POLL_MS = 100;
/** From these it may yet come to run by itself, or by somebody who resumes it. */
const MAY_YET_RUN: ReadonlySet<VmState> = new Set(['created', 'starting', 'paused', 'saved']);

/** Wakes a VM that sleeps because nobody used it; one that a user paused is waited for until that user resumes it. */
export function awakeWhenUsed(registry: VmRegistry, wake: Awake): Awake {
  return async (vmId, signal) => {
    for (;;) {
      const vm = registry.row(vmId);
      const live = registry.live(vmId);
      if (vm.state === 'running' && live !== undefined) return live;
      if (isAsleep(vm)) return await wake(vmId, signal);
      if (!MAY_YET_RUN.has(vm.state)) {
        throw new BangerError('invalid_state', `VM "${vm.name}" is ${vm.state}`);
      }
      await sleep(POLL_MS, undefined, { signal });
    }
  };
}
