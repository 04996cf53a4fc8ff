import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../../../test/helpers/store-records.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { type Log, NO_LOG } from '../../../host/log.ts';
import { openStore, type Store } from '../../../store/store.ts';
import type {
  Machine,
  MachineExit,
  MachineHandles,
  MachineRunState,
  VmmDriver,
} from '../../../vmm/driver.ts';
import { beginExchange } from '../../disk-exchange.ts';
import { vmFiles, writeHandles } from '../../vm-files.ts';
import { listVmDirs, readVmRecord } from '../../vm-record-file.ts';
import { awakeWhenUsed } from './awake.ts';
import { PortForwards } from '../ports/port-forwards.ts';
import { isHeld, markHeld } from './held.ts';
import { Transfers } from '../guests/transfers.ts';
import { VmLifecycle, type VmLifecycleDeps } from './vm-lifecycle.ts';
import { reconcile } from './vm-reconcile.ts';
import { VmRegistry } from './vm-registry.ts';

const id = (digit: string): string => digit.repeat(32);

/** A machine that runs until it is killed; its guest answers nobody, but tells of who asks. */
class FakeMachine implements Machine {
  readonly handles: MachineHandles;
  readonly exited = new Promise<MachineExit>(() => undefined);
  kills = 0;
  connects = 0;
  /** Null: the VMM does not say. */
  state: MachineRunState | null = 'running';
  constructor(handles: MachineHandles) {
    this.handles = handles;
  }
  async connectChannel(): Promise<never> {
    this.connects += 1;
    throw new BangerError('timeout', 'nobody answers');
  }
  async pause(): Promise<void> {
    this.state = 'paused';
  }
  async resume(): Promise<void> {
    this.state = 'running';
  }
  async runState(): Promise<MachineRunState> {
    if (this.state === null) throw new BangerError('timeout', 'the VMM does not answer');
    return this.state;
  }
  async save(): Promise<never> {
    throw new BangerError('unsupported', 'it is not saved here');
  }
  async plug(): Promise<void> {}
  async prepareSave(): Promise<void> {}
  async kill(): Promise<void> {
    this.kills += 1;
  }
  release(): void {}
}

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let machines: Map<number, FakeMachine>;
let warnings: string[];
let forwards: PortForwards;
beforeEach(() => {
  dir = new StateDirectory();
  dir.addKernel();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image', artifactDir: dir.addImage() }));
  registry = new VmRegistry({ store, paths: dir.paths });
  machines = new Map();
  warnings = [];
  forwards = new PortForwards({
    awake: awakeWhenUsed(registry, async () => assert.fail('nobody sleeps')),
    log: NO_LOG,
  });
});
afterEach(() => {
  forwards.closeAll();
  store.close();
  dir[Symbol.dispose]();
});

const files = (vm: string) => vmFiles(dir.paths, vm);

/** What a daemon does when it starts. */
async function start(): Promise<void> {
  const log: Log = { ...NO_LOG, warn: (_fields, message) => warnings.push(message) };
  const lifecycle = new VmLifecycle({
    registry,
    store,
    log,
    forwards,
    transfers: new Transfers(),
  } as VmLifecycleDeps);
  const driver = {
    adopt: async (handles: MachineHandles) => machines.get(handles.pid),
  } as unknown as VmmDriver;
  await reconcile({ paths: dir.paths, registry, lifecycle, driver, forwards, log });
}

function addRow(change: Partial<VmRecord> = {}): VmRecord {
  return store.insertVm(someVm('image', { id: id('1'), ...change }), '172.16.0');
}

/** A process that runs for this VM, and is written down. */
async function run(vm: string): Promise<FakeMachine> {
  const pid = 4_000_000 + machines.size;
  const handles: MachineHandles = {
    ...{ driver: 'qemu', pid, pidStartTicks: 1, hostBootId: 'b', argv: [] },
    controlSocketPath: '/c',
    channelSocketPath: '/a',
  };
  mkdirSync(files(vm).dir, { recursive: true });
  mkdirSync(files(vm).socketDir, { recursive: true });
  await writeHandles(files(vm), handles);
  const machine = new FakeMachine(handles);
  machines.set(pid, machine);
  return machine;
}

const state = (vm: string): string | undefined => store.getVmById(vm)?.state;

test('a VM whose row was lost is left alone: disk, sockets, process', async () => {
  await dir.addVm({ id: id('2') });
  const machine = await run(id('2'));
  const before = readdirSync(files(id('2')).dir);
  await start();
  assert.deepEqual(readdirSync(files(id('2')).dir), before);
  assert.ok(existsSync(files(id('2')).socketDir));
  assert.equal(machine.kills, 0);
  assert.deepEqual(store.listVms(), []);
  assert.match(warnings.join('\n'), /left alone; `banger state rebuild`/);
});

test('so is one whose record is damaged, a link, or anything else', async () => {
  const makers: readonly ((path: string) => void)[] = [
    (path) => writeFileSync(path, ''),
    (path) => symlinkSync('/nowhere', path),
    (path) => mkdirSync(path),
  ];
  for (const [index, make] of makers.entries()) {
    const { dir } = files(id(`${index + 2}`));
    mkdirSync(dir);
    make(join(dir, 'vm.json'));
  }
  await start();
  for (const index of makers.keys()) assert.ok(existsSync(files(id(`${index + 2}`)).dir));
});

test('a directory without a record and a row is swept, with its process', async () => {
  const machine = await run(id('2'));
  writeFileSync(files(id('2')).rootDisk, 'a disk');
  await start();
  assert.ok(!existsSync(files(id('2')).dir));
  assert.ok(!existsSync(files(id('2')).socketDir));
  assert.equal(machine.kills, 1);
});

for (const older of ['created', 'stopped'] as const) {
  test(`a VM that runs although its row says ${older} is taken over`, async () => {
    addRow({ state: older, runtime: { stoppedAt: 'then', lastError: 'then', bootId: 'another boot' } });
    const machine = await run(id('1'));
    await start();
    assert.equal(state(id('1')), 'running');
    assert.deepEqual(store.getVmById(id('1'))?.runtime, {}, 'what the row said was of another boot');
    assert.equal(machine.kills, 0);
    assert.equal(registry.live(id('1'))?.machine, machine);
  });
}

test('a VM that runs as its row says is taken over as it is', async () => {
  const runtime = { bootId: 'b', startedAt: 's', machine: 'm' };
  addRow({ state: 'running', runtime });
  const machine = await run(id('1'));
  await start();
  assert.deepEqual([state(id('1')), store.getVmById(id('1'))?.runtime], ['running', runtime]);
  assert.equal(machine.kills, 0);
});

const RUNTIME = { bootId: 'b', startedAt: 's', machine: 'm' };
for (const [row, machineState, expected] of [
  ['paused', 'paused', 'paused'],
  ['running', 'paused', 'paused'],
  ['paused', 'running', 'running'],
  ['paused', null, 'paused'],
  ['running', null, 'running'],
] as const) {
  test(`a VM whose row says ${row} and whose machine says ${machineState} is ${expected}, and stays what it is`, async () => {
    addRow({ state: row, runtime: RUNTIME });
    const machine = await run(id('1'));
    machine.state = machineState;
    await start();
    assert.deepEqual([state(id('1')), store.getVmById(id('1'))?.runtime], [expected, RUNTIME]);
    assert.deepEqual([machine.kills, machine.state], [0, machineState]);
    assert.equal(registry.live(id('1'))?.machine, machine);
  });
}

test('the clock of a VM that goes on although its row says paused is seen to, no other', async () => {
  for (const [row, connects] of [
    ['paused', 1],
    ['running', 0],
  ] as const) {
    addRow({ state: row, runtime: RUNTIME });
    const machine = await run(id('1'));
    await start();
    assert.equal(machine.connects, connects, row);
    store.deleteVm(id('1'));
  }
});

test('a VM that was held while it was copied goes on, at the right time; one that the user has paused since stays', async () => {
  for (const [row, machineState, held, expected] of [
    ['running', 'paused', true, 'running'],
    ['running', 'running', true, 'running'],
    ['running', 'paused', false, 'paused'],
  ] as const) {
    addRow({ state: row, runtime: RUNTIME });
    const machine = await run(id('1'));
    machine.state = machineState;
    if (held) await markHeld(files(id('1')));
    await start();
    assert.deepEqual([state(id('1')), machine.state, machine.kills], [expected, expected, 0]);
    assert.deepEqual(store.getVmById(id('1'))?.runtime, RUNTIME);
    assert.equal(machine.connects, held ? 1 : 0, 'its clock');
    assert.ok(machineState === 'running' || !isHeld(files(id('1'))));
    rmSync(files(id('1')).socketDir, { recursive: true });
    store.deleteVm(id('1'));
  }
});

test('a restore that was committed is finished: the disk, and what the row says of it', async () => {
  const vm = addRow({ state: 'stopped', runtime: { startedAt: 's' } });
  await dir.addVm(vm);
  writeFileSync(files(vm.id).rootDisk, 'now');
  {
    await using exchange = await beginExchange(files(vm.id));
    writeFileSync(exchange.disks.rootDisk, 'then');
    writeFileSync(exchange.disks.transferDisk, 'then');
    await exchange.commit({ spec: { ...vm.spec, memoryMib: 640 }, workspace: null });
  }
  await start();
  const row = store.getVmById(vm.id);
  assert.deepEqual([row?.state, row?.spec.memoryMib], ['stopped', 640]);
  assert.equal(readFileSync(files(vm.id).rootDisk, 'utf8'), 'then');
  assert.equal((await readVmRecord(files(vm.id).dir, vm.id))?.spec.memoryMib, 640);
  assert.ok(!existsSync(join(files(vm.id).dir, 'exchange')));
});

test('a paused VM whose row is older than its boot is taken over without asking the guest, which cannot answer', async () => {
  addRow({ state: 'stopped', runtime: { stoppedAt: 'then', bootId: 'another boot' } });
  const machine = await run(id('1'));
  machine.state = 'paused';
  await start();
  assert.deepEqual([state(id('1')), store.getVmById(id('1'))?.runtime], ['paused', {}]);
  assert.deepEqual([machine.connects, machine.kills], [0, 0]);
});

test('a paused VM whose process is gone is stopped', async () => {
  addRow({ state: 'paused' });
  await dir.addVm({ id: id('1') });
  await start();
  assert.equal(state(id('1')), 'stopped');
});

test('a stop that was cut off before the guest was woken is finished: it is woken first', async () => {
  addRow({ state: 'stopping' });
  const machine = await run(id('1'));
  machine.state = 'paused';
  const woken = Promise.withResolvers<void>();
  machine.resume = async () => woken.resolve();
  await start();
  await woken.promise;
});

test('a creation that did not end is undone; one that the row does not know to have ended is not', async () => {
  addRow({ state: 'starting', runtime: { pending: 'create' } });
  const unfinished = await run(id('1'));
  addRow({ id: id('2'), name: 'runs', state: 'starting', runtime: { pending: 'create' } });
  await dir.addVm({ id: id('2'), name: 'runs', guestIp: '172.16.0.3' });
  const runs = await run(id('2'));
  addRow({ id: id('3'), name: 'rests', state: 'starting', runtime: { pending: 'create' } });
  await dir.addVm({ id: id('3'), name: 'rests', guestIp: '172.16.0.4' });
  await start();
  assert.deepEqual([state(id('1')), state(id('2')), state(id('3'))], [undefined, 'running', 'stopped']);
  assert.deepEqual([unfinished.kills, runs.kills], [1, 0]);
  assert.ok(!existsSync(files(id('1')).dir));
  assert.equal(store.getVmById(id('2'))?.runtime.pending, undefined);
  assert.equal(store.getVmById(id('3'))?.runtime.pending, undefined);
});

test('a first start that was cut off before its disk was made is no stopped VM', async () => {
  addRow({ state: 'starting' });
  addRow({ id: id('2'), name: 'had-one', state: 'starting' });
  await dir.addVm({ id: id('2'), name: 'had-one', guestIp: '172.16.0.3' });
  addRow({ id: id('3'), name: 'restored', state: 'running' });
  await start();
  assert.deepEqual([state(id('1')), state(id('2')), state(id('3'))], ['created', 'stopped', 'stopped']);
});

test('wherever a deletion was cut off, nothing is left of the VM; nor when its row is lost, too', async () => {
  const cuts: readonly (readonly [string, () => void, boolean])[] = [
    ['the row says so', () => undefined, true],
    ['vm.json is gone', () => rmSync(join(files(id('1')).dir, 'vm.json')), false],
    ['the process is gone', () => machines.clear(), false],
    ['the disk is gone', () => rmSync(files(id('1')).rootDisk), false],
    ['the directory is gone', () => rmSync(files(id('1')).dir, { recursive: true }), false],
  ];
  for (const rowIsLost of [false, true]) {
    for (const [index, [name, , isKept]] of cuts.entries()) {
      addRow({ state: 'stopping', runtime: { pending: 'delete' } });
      await dir.addVm({ id: id('1') });
      await run(id('1'));
      for (const [, cut] of cuts.slice(0, index + 1)) cut();
      if (rowIsLost) store.deleteVm(id('1'));
      await start();
      const kept = rowIsLost && isKept;
      assert.equal(existsSync(files(id('1')).dir), kept, `${name}, row lost: ${rowIsLost}`);
      assert.deepEqual(store.listVms(), []);
      rmSync(files(id('1')).dir, { recursive: true, force: true });
      machines.clear();
    }
  }
});

test('a record that is missing or old is mended, one that is right is not touched', async () => {
  addRow({ state: 'stopped' });
  addRow({ id: id('2'), name: 'old', state: 'stopped' });
  addRow({ id: id('3'), name: 'right', state: 'stopped' });
  mkdirSync(files(id('1')).dir);
  await dir.addVm({ id: id('2'), name: 'as-it-was-called', guestIp: '172.16.0.3' });
  await dir.addVm({ id: id('3'), name: 'right', guestIp: '172.16.0.4' });
  const right = join(files(id('3')).dir, 'vm.json');
  const { ino } = statSync(right);
  await start();
  assert.equal((await readVmRecord(files(id('1')).dir, id('1')))?.image.sha256, 'd'.repeat(64));
  assert.equal((await readVmRecord(files(id('2')).dir, id('2')))?.name, 'old');
  assert.equal(statSync(right).ino, ino);
});

test('no record for a VM without files here, nor for an ephemeral one', async () => {
  addRow({ state: 'stopped' });
  const spec = { ...someVm('image').spec, ephemeral: true };
  addRow({ id: id('2'), name: 'ephemeral', state: 'running', spec });
  await run(id('2'));
  await registry.keepRecord(id('2'));
  assert.ok(!existsSync(join(files(id('2')).dir, 'vm.json')));
  await start();
  assert.deepEqual(readdirSync(dir.paths.vmsDir), []);
});

test('a row is written with its record, or not at all', async () => {
  const vm = addRow({ state: 'stopped', runtime: {} });
  const { dir: vmDir } = files(vm.id);
  const bigger = { ...vm, spec: { ...vm.spec, vcpus: 7 } };
  assert.equal((await registry.save(bigger)).spec.vcpus, 7);
  assert.equal((await readVmRecord(vmDir, vm.id))?.spec.vcpus, 7);
  const path = join(vmDir, 'vm.json');
  const before = readFileSync(path, 'utf8');
  registry.update(vm.id, 'running', { bootId: 'b' });
  await registry.save(registry.changed(vm.id, 'stopped', { stoppedAt: 'now' }));
  assert.equal(readFileSync(path, 'utf8'), before, 'a change of state is none of the record');
  rmSync(path);
  mkdirSync(path);
  await assert.rejects(registry.save({ ...vm, spec: { ...vm.spec, vcpus: 8 } }), { code: 'io_error' });
  assert.equal(store.getVmById(vm.id)?.spec.vcpus, 7);
});

test('a deletion that cannot end its process has removed the record already, and keeps the row', async () => {
  const vm = addRow({ state: 'running', runtime: { bootId: 'b' } });
  await dir.addVm({ id: vm.id });
  const machine = await run(vm.id);
  machine.kill = async () => {
    throw new BangerError('vmm_failed', 'it does not go');
  };
  await start();
  const lifecycle = new VmLifecycle({
    registry,
    store,
    log: NO_LOG,
    forwards,
    transfers: new Transfers(),
  } as VmLifecycleDeps);
  await assert.rejects(lifecycle.remove(vm), { code: 'vmm_failed' });
  assert.deepEqual(await listVmDirs(dir.paths.vmsDir), [{ id: vm.id, recorded: false }]);
  assert.equal(store.getVmById(vm.id)?.runtime.pending, 'delete');
});

/** Whether anybody accepts a connection there. */
async function isOpen(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('connect', () => resolve(true));
  // A guest that answers nobody resets it at once.
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNRESET'));
  return await promise.finally(() => socket.destroy());
}

test('the ports of a VM that is taken over are open again, the chosen one too; those of one that is gone are not', async () => {
  const publish = [{ hostAddress: '127.0.0.1', hostPort: 0, guestPort: 80 }];
  const spec = { ...someVm('image').spec, publish };
  const vm = addRow({ state: 'running', spec, runtime: { bootId: 'b' } });
  const machine = await run(vm.id);
  await start();
  const [chosen] = registry.row(vm.id).runtime.published ?? [];
  assert.deepEqual(chosen, { ...publish[0], hostPort: chosen?.hostPort });
  assert.ok(await isOpen(chosen.hostPort));

  // As if the daemon had died.
  forwards.closeAll();
  await start();
  assert.deepEqual(registry.row(vm.id).runtime.published, [chosen]);
  assert.ok(await isOpen(chosen.hostPort));

  machines.delete(machine.handles.pid);
  await start();
  assert.equal(state(vm.id), 'stopped');
  assert.equal(await isOpen(chosen.hostPort), false);
});
