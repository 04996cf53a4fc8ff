import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../../../test/helpers/store-records.ts';
import type { VmState } from '../../../core/model/vm.ts';
import { openStore, type Store } from '../../../store/store.ts';
import { type Awake, awakeWhenUsed } from './awake.ts';
import type { LiveVm } from './live-vm.ts';
import { VmRegistry } from './vm-registry.ts';

const ID = '1'.repeat(32);
const LIVE = { id: ID } as LiveVm;
const never = new AbortController().signal;

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let awake: Awake;
beforeEach(() => {
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image' }));
  registry = new VmRegistry({ store, paths: dir.paths });
  awake = awakeWhenUsed(registry, async () => assert.fail('nobody sleeps'));
});
afterEach(() => {
  store.close();
  dir[Symbol.dispose]();
});

function add(state: VmState): void {
  store.insertVm(someVm('image', { id: ID, state }), '172.16.0');
  registry.setLive(LIVE);
}

test('a running VM is there at once', async () => {
  add('running');
  assert.equal(await awake(ID, never), LIVE);
});

for (const state of ['created', 'starting', 'paused'] as const) {
  test(`one that is ${state} is waited for`, async () => {
    add(state);
    let answered = false;
    const waiting = awake(ID, never).finally(() => {
      answered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(answered, false);
    registry.update(ID, 'running');
    assert.equal(await waiting, LIVE);
  });
}

test('one that ends, or has ended, is not waited for', async () => {
  add('paused');
  const waiting = awake(ID, never);
  registry.update(ID, 'stopping');
  await assert.rejects(waiting, { code: 'invalid_state', message: 'VM "dev" is stopping' });
  registry.update(ID, 'running');
  registry.dropLive(LIVE);
  await assert.rejects(awake(ID, never), { code: 'invalid_state' });
  store.deleteVm(ID);
  await assert.rejects(awake(ID, never), { code: 'not_found' });
});

test('whoever waits can give up', async () => {
  add('paused');
  const abort = new AbortController();
  const waiting = awake(ID, abort.signal);
  abort.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
});
