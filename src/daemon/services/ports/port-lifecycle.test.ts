/** Published ports over a VM's start and end. */

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../../../test/helpers/store-records.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { NO_LOG } from '../../../host/log.ts';
import { openStore, type Store } from '../../../store/store.ts';
import type { Machine } from '../../../vmm/driver.ts';
import { awakeWhenUsed } from '../vms/awake.ts';
import type { LocalImage } from '../images/image-service.ts';
import { LiveVm } from '../vms/live-vm.ts';
import { PortForwards } from './port-forwards.ts';
import type { BootOutcome, VmBoot } from '../vms/vm-boot.ts';
import { Transfers } from '../guests/transfers.ts';
import { VmLifecycle, type VmLifecycleDeps } from '../vms/vm-lifecycle.ts';
import { VmRegistry } from '../vms/vm-registry.ts';

const ID = '1'.repeat(32);
const IMAGE = {} as LocalImage;
const operation = { signal: new AbortController().signal, progress: () => undefined, about: () => undefined };
const publish = [{ hostAddress: '127.0.0.1', hostPort: 0, guestPort: 80 }];

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let forwards: PortForwards;
let boot: () => Promise<BootOutcome>;
let lifecycle: VmLifecycle;
let vm: VmRecord;
beforeEach(() => {
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image' }));
  registry = new VmRegistry({ store, paths: dir.paths });
  forwards = new PortForwards({
    awake: awakeWhenUsed(registry, async () => assert.fail('nobody sleeps')),
    log: NO_LOG,
  });
  const deps = {
    registry,
    store,
    log: NO_LOG,
    forwards,
    transfers: new Transfers(),
    boot: { boot: () => boot() } as unknown as VmBoot,
  };
  lifecycle = new VmLifecycle(deps as unknown as VmLifecycleDeps);
  vm = store.insertVm(someVm('image', { id: ID, spec: { ...someVm('image').spec, publish } }), '172.16.0');
});
afterEach(() => {
  forwards.closeAll();
  store.close();
  dir[Symbol.dispose]();
});

const machine = {
  exited: new Promise<never>(() => undefined),
  kill: async () => undefined,
  release: () => undefined,
} as unknown as Machine;
const started = async (): Promise<BootOutcome> => ({
  live: new LiveVm(ID, machine, 'launched'),
  runtime: {},
});

async function isOpen(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('connect', () => resolve(true));
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  return await promise.finally(() => socket.destroy());
}

test('they are open while it boots, and until it is torn down', async () => {
  boot = started;
  await lifecycle.start(vm, IMAGE, undefined, operation, 'best');
  const port = registry.row(ID).runtime.published?.[0]?.hostPort ?? assert.fail('it is not written down');
  assert.ok(await isOpen(port));
  boot = async () => {
    assert.ok(await isOpen(port));
    return await started();
  };
  await lifecycle.start(registry.row(ID), IMAGE, undefined, operation, 'best');
  assert.equal(registry.row(ID).runtime.published?.[0]?.hostPort, port);
  await lifecycle.tearDown(registry.row(ID));
  assert.equal(await isOpen(port), false);
});

test('a boot that fails leaves none open', async () => {
  boot = started;
  await lifecycle.start(vm, IMAGE, undefined, operation, 'best');
  const row = registry.row(ID);
  boot = async () => {
    throw new Error('it does not boot');
  };
  await assert.rejects(lifecycle.start(row, IMAGE, undefined, operation, 'best'), /does not boot/);
  assert.equal(await isOpen(row.runtime.published?.[0]?.hostPort ?? 0), false);
});

test('a port that cannot be had ends the start before the boot', async () => {
  boot = async () => assert.fail('it was booted');
  const spec = {
    ...vm.spec,
    publish: [{ ...publish[0], hostAddress: '192.0.2.1', hostPort: 0, guestPort: 80 }],
  };
  await assert.rejects(lifecycle.start({ ...vm, spec }, IMAGE, undefined, operation, 'best'), {
    code: 'bad_request',
  });
});

test('what its programs listened on in an earlier life is forgotten', async () => {
  boot = started;
  registry.update(ID, 'stopped', { forwarded: [{ port: 80 }] });
  await lifecycle.start(registry.row(ID), IMAGE, undefined, operation, 'best');
  assert.equal(registry.row(ID).runtime.forwarded, undefined);
});

test('a VM that publishes nothing has nothing written down about it', async () => {
  boot = started;
  await lifecycle.start({ ...vm, spec: { ...vm.spec, publish: [] } }, IMAGE, undefined, operation, 'best');
  assert.deepEqual(registry.row(ID).runtime, {});
});
