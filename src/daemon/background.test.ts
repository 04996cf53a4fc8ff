import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../test/helpers/store-records.ts';
import type { VmState } from '../core/model/vm.ts';
import { NO_LOG } from '../host/log.ts';
import { openStore, type Store } from '../store/store.ts';
import { startBackground } from './background.ts';
import type { LiveVm } from './services/vms/live-vm.ts';
import type { PortForwards } from './services/ports/port-forwards.ts';
import { VmRegistry } from './services/vms/vm-registry.ts';
import type { VmService } from './services/vms/vm-service.ts';

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let trafficAtMs: Map<string, number>;
beforeEach(() => {
  trafficAtMs = new Map();
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image' }));
  registry = new VmRegistry({ store, paths: dir.paths });
});
afterEach(() => {
  store.close();
  dir[Symbol.dispose]();
});

/** A VM nobody has touched for long. */
function addVm(digit: string, state: VmState, isBusy: boolean): string {
  const id = digit.repeat(32);
  store.insertVm(someVm('image', { id, name: `vm-${digit}`, state }), '172.16.0');
  registry.setLive({ id, isBusy, machine: { handles: { pid: process.pid } } } as unknown as LiveVm);
  return id;
}

/** Those that a round stops: once a second one has begun, the first is over. */
async function stoppedByARound(): Promise<readonly string[]> {
  const stopped: string[] = [];
  const second = Promise.withResolvers<void>();
  let rounds = 0;
  const end = startBackground({
    vms: { stop: async (id: string) => void stopped.push(id) } as unknown as VmService,
    registry: {
      list: () => {
        rounds += 1;
        if (rounds === 2) second.resolve();
        return registry.list();
      },
      live: (id: string) => registry.live(id),
      find: (id: string) => registry.find(id),
      files: (id: string) => registry.files(id),
      touch: (id: string) => registry.touch(id),
      sample: (id: string) => registry.sample(id),
    } as unknown as VmRegistry,
    forwards: {
      traffic: (id: string) => ({ openConnections: 1, lastTrafficAtMs: trafficAtMs.get(id) }),
    } as PortForwards,
    log: NO_LOG,
    intervalMs: 1,
    stopStaleAfterMs: 1000,
  });
  // Its own timer keeps no process alive.
  const keepAlive = setInterval(() => undefined, 1000);
  await second.promise;
  end();
  clearInterval(keepAlive);
  return stopped;
}

test('stale VMs are stopped: those that run no command, and paused ones whatever stands still in them', async () => {
  const busy = addVm('1', 'running', true);
  const idle = addVm('2', 'running', false);
  const paused = addVm('3', 'paused', false);
  const pausedInCommand = addVm('4', 'paused', true);
  addVm('5', 'stopping', false);
  const before = store.getVmById(busy)?.lastTouchedAt ?? '';
  const stopped = await stoppedByARound();
  assert.deepEqual([...new Set(stopped)].toSorted(), [idle, paused, pausedInCommand]);
  assert.ok((store.getVmById(busy)?.lastTouchedAt ?? '') > before);
});

test('bytes through a published port are use, an open connection without any is not', async () => {
  const used = addVm('1', 'running', false);
  const open = addVm('2', 'running', false);
  trafficAtMs.set(used, performance.now());
  trafficAtMs.set(open, performance.now() - 60_000);
  assert.deepEqual(await stoppedByARound(), [open]);
});
