/** VMs whose memory is on disk, after a daemon that ended, however it ended. */

import assert from 'node:assert/strict';
import { existsSync, rmSync, truncateSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { SaveableMachine, writeFacts } from '../../../../test/helpers/saveable-machine.ts';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../../../test/helpers/store-records.ts';
import { VM_STATES, type VmRecord, type VmRuntime, type VmState } from '../../../core/model/vm.ts';
import { NO_LOG } from '../../../host/log.ts';
import { createRunner } from '../../../host/runner.ts';
import { openStore, type Store } from '../../../store/store.ts';
import type { VmmDriver } from '../../../vmm/driver.ts';
import { type VmFiles, writeHandles } from '../../vm-files.ts';
import { awakeWhenUsed } from './awake.ts';
import type { LiveVm } from './live-vm.ts';
import { PortForwards } from '../ports/port-forwards.ts';
import { hasSavedMemory, markAsRan, saveMemory } from './saved-memory.ts';
import { Transfers } from '../guests/transfers.ts';
import { VmLifecycle, type VmLifecycleDeps } from './vm-lifecycle.ts';
import { reconcile } from './vm-reconcile.ts';
import { VmRegistry } from './vm-registry.ts';

const ID = '1'.repeat(32);
const never = new AbortController().signal;
const publish = [{ hostAddress: '127.0.0.1', hostPort: 0, guestPort: 80 }];

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let files: VmFiles;
let forwards: PortForwards;
let machine: SaveableMachine;
/** VMs that a client wanted to be awake. */
let wanted: string[];
beforeEach(async () => {
  dir = new StateDirectory();
  dir.addKernel();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image', artifactDir: dir.addImage() }));
  registry = new VmRegistry({ store, paths: dir.paths });
  files = registry.files(ID);
  wanted = [];
  const wake = async (vmId: string): Promise<LiveVm> => {
    wanted.push(vmId);
    return await new Promise(() => undefined);
  };
  forwards = new PortForwards({ awake: awakeWhenUsed(registry, wake), log: NO_LOG });
  await dir.addVm({ id: ID });
  await writeFacts(files);
  machine = new SaveableMachine();
});
afterEach(() => {
  forwards.closeAll();
  store.close();
  dir[Symbol.dispose]();
});

function add(state: VmState, runtime: VmRuntime = { heldBy: 'idle', bootId: 'b' }): VmRecord {
  const spec = { ...someVm('image').spec, memoryMib: 1, publish };
  return store.insertVm(someVm('image', { id: ID, state, spec, runtime }), '172.16.0');
}

async function save(): Promise<void> {
  await machine.pause();
  const about = { name: 'dev', memoryMib: 1, diskSizeBytes: 4096 };
  await saveMemory(machine, about, files, createRunner(), never);
}

/** What a daemon does when it starts. */
async function start(lives: boolean): Promise<VmRecord> {
  const lifecycle = new VmLifecycle({
    registry,
    store,
    log: NO_LOG,
    forwards,
    transfers: new Transfers(),
  } as VmLifecycleDeps);
  const driver = { adopt: async () => (lives ? machine : undefined) } as unknown as VmmDriver;
  if (lives) await writeHandles(files, machine.handles);
  await reconcile({ paths: dir.paths, registry, lifecycle, driver, forwards, log: NO_LOG });
  return registry.row(ID);
}

test('a saved VM stays so, with its ports open, and whoever connects wakes it', async () => {
  await save();
  add('saved');
  const { state, runtime } = await start(false);
  assert.deepEqual([state, runtime.heldBy, runtime.bootId], ['saved', 'idle', 'b']);
  const port = runtime.published?.[0]?.hostPort ?? assert.fail('it is not open');
  const socket = connect({ port, host: '127.0.0.1' });
  while (wanted.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(wanted, [ID]);
  socket.destroy();
});

for (const state of VM_STATES.filter((one) => one !== 'stopping')) {
  for (const lives of [true, false]) {
    const process = lives ? 'a process' : 'no process';
    test(`memory that fits makes a VM of a row that says ${state}, with ${process}, a saved one`, async () => {
      await save();
      add(state);
      assert.equal((await start(lives)).state, 'saved');
      assert.equal(machine.isGone, lives);
      assert.equal(registry.live(ID), undefined);
      assert.ok(await hasSavedMemory(files));
    });
  }
}

test('one that was being stopped is stopped', async () => {
  await save();
  add('stopping');
  assert.equal((await start(false)).state, 'stopped');
  assert.equal(existsSync(files.savedDir), false);
});

for (const state of ['running', 'paused'] as const) {
  test(`one that had begun to go on, and is ${state}, is taken over as it is`, async () => {
    await save();
    await markAsRan(files);
    if (state === 'running') await machine.resume();
    add('saved');
    const { state: now, runtime } = await start(true);
    assert.deepEqual(
      [now, runtime.heldBy, machine.isGone],
      [state, state === 'paused' ? 'idle' : undefined, false],
    );
    assert.equal(existsSync(files.savedDir), false);
  });
}

const LOSSES: Readonly<Record<string, readonly [() => void | Promise<void>, RegExp]>> = {
  'that ended while it went on': [
    () => markAsRan(files),
    /^ended while it was going on from its saved memory$/,
  ],
  'whose memory is gone': [
    () => rmSync(files.savedDir, { recursive: true }),
    /^its saved memory is gone; its disk/,
  ],
};
for (const [name, [lose, reason]] of Object.entries(LOSSES)) {
  test(`a VM ${name} is stopped, and says why`, async () => {
    await save();
    await lose();
    add('saved');
    const { state, runtime } = await start(false);
    assert.deepEqual([state, runtime.heldBy], ['stopped', undefined]);
    assert.match(runtime.lastError ?? '', reason);
    assert.equal(existsSync(files.savedDir), false);
  });
}

test('a row that was restored without the files of its VM', async () => {
  rmSync(files.dir, { recursive: true });
  add('saved');
  const { state, runtime } = await start(false);
  assert.equal(state, 'stopped');
  assert.match(runtime.lastError ?? '', /^its saved memory is gone/);
  assert.equal(existsSync(files.dir), false);
});

test('damage is for its wake to see: nothing is removed here', async () => {
  await save();
  truncateSync(join(files.savedDir, 'manifest.json'));
  add('saved');
  assert.equal((await start(false)).state, 'saved');
  assert.ok(await hasSavedMemory(files));
});

test('one that was made with --rm is removed with its memory', async () => {
  await save();
  const vm = add('saved');
  store.upsertVm({ ...vm, spec: { ...vm.spec, ephemeral: true } });
  await assert.rejects(start(false), { code: 'not_found' });
  assert.equal(existsSync(files.dir), false);
});
