/** What the daemon does unasked, at intervals: sample statistics, stop stale VMs, keep logs bounded. */

import type { VmView } from '../api/results/vm.ts';
import type { Log } from '../host/log.ts';
import type { PortForwards } from './services/ports/port-forwards.ts';
import type { VmRegistry } from './services/vms/vm-registry.ts';
import type { VmService } from './services/vms/vm-service.ts';
import { capLog } from './vm-files.ts';

const STOP_TIMEOUT_MS = 120_000;

export interface BackgroundOptions {
  readonly vms: VmService;
  readonly registry: VmRegistry;
  readonly forwards: PortForwards;
  readonly log: Log;
  readonly intervalMs: number;
  /** Stops VMs nobody touched for that long; 0: never. */
  readonly stopStaleAfterMs: number;
}

/** Returns the way to end it. One round at a time; a failing round is logged and the next one tries again. */
export function startBackground(options: BackgroundOptions): () => void {
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    round(options)
      .catch((error: unknown) => options.log.error({ err: error }, 'background round failed'))
      .finally(() => {
        busy = false;
      });
  }, options.intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}

async function round(options: BackgroundOptions): Promise<void> {
  for (const vm of options.registry.list().filter(({ state }) => state === 'running' || state === 'paused')) {
    try {
      await lookAfter(vm, options);
    } catch (error) {
      options.log.error({ vm: vm.name, err: error }, 'could not look after a VM');
    }
  }
}

async function lookAfter(
  vm: VmView,
  { vms, registry, forwards, log, stopStaleAfterMs }: BackgroundOptions,
): Promise<void> {
  await registry.sample(vm.id);
  const files = registry.files(vm.id);
  await capLog(files.consoleLog);
  await capLog(files.vmmLog);
  if (stopStaleAfterMs === 0) return;
  // In a paused VM no command runs, even if one has not ended.
  if (vm.state === 'running' && registry.live(vm.id)?.isBusy === true) registry.touch(vm.id);
  const untouchedMs = Date.now() - Date.parse(registry.find(vm.id)?.lastTouchedAt ?? vm.lastTouchedAt);
  const { lastTrafficAtMs } = forwards.traffic(vm.id);
  const idleMs = Math.min(untouchedMs, performance.now() - (lastTrafficAtMs ?? Number.NEGATIVE_INFINITY));
  if (idleMs <= stopStaleAfterMs) return;
  log.info({ vm: vm.name, idleMs }, 'stopping a VM nobody has touched');
  const signal = AbortSignal.timeout(STOP_TIMEOUT_MS);
  await vms.stop(vm.id, { signal, progress: () => undefined, about: () => undefined });
}
