import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { SaveableMachine, writeFacts } from '../../../../test/helpers/saveable-machine.ts';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../../../test/helpers/store-records.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord, VmState } from '../../../core/model/vm.ts';
import { NO_LOG } from '../../../host/log.ts';
import { createRunner } from '../../../host/runner.ts';
import { openStore, type Store } from '../../../store/store.ts';
import type { VmmDriver } from '../../../vmm/driver.ts';
import type { VmFiles } from '../../vm-files.ts';
import type { ImageService } from '../images/image-service.ts';
import { LiveVm } from './live-vm.ts';
import { FileVerifier } from '../images/file-verifier.ts';
import { PortForwards } from '../ports/port-forwards.ts';
import { hasSavedMemory, markAsRan } from './saved-memory.ts';
import type { StartFrom } from './guest-starts.ts';
import type { BootOutcome, VmBoot } from './vm-boot.ts';
import { Transfers } from '../guests/transfers.ts';
import { VmLifecycle, type VmLifecycleDeps } from './vm-lifecycle.ts';
import { VmPause } from './vm-pause.ts';
import { VmRegistry } from './vm-registry.ts';
import { VmSleep } from './vm-sleep.ts';

const ID = '1'.repeat(32);
const never = new AbortController().signal;
const operation = { signal: never, progress: () => undefined, about: () => undefined };

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let files: VmFiles;
let machine: SaveableMachine;
let lifecycle: VmLifecycle;
let sleep: VmSleep;
/** What was started, in order. */
let starts: string[];
let boot: (from: StartFrom, signal: AbortSignal) => Promise<void>;
beforeEach(async () => {
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image' }));
  registry = new VmRegistry({ store, paths: dir.paths });
  files = registry.files(ID);
  mkdirSync(files.dir);
  writeFileSync(files.rootDisk, 'a disk');
  await writeFacts(files);
  starts = [];
  boot = async () => undefined;
  machine = new SaveableMachine();
  const runner = createRunner();
  const images = { ensure: async () => ({}) } as unknown as ImageService;
  const forwards = new PortForwards({ awake: async () => assert.fail('no client'), log: NO_LOG });
  const booter = {
    boot: async (
      _vm: VmRecord,
      _image: unknown,
      _errand: unknown,
      { signal }: { signal: AbortSignal },
      from: StartFrom,
    ) => {
      starts.push(typeof from === 'object' && 'frozen' in from ? from.identity : String(from));
      if (typeof from === 'object' && 'frozen' in from) await from.beforeRun?.();
      await boot(from, signal);
      machine = new SaveableMachine();
      return { live: new LiveVm(ID, machine, 'launched'), runtime: { bootId: 'new' } } satisfies BootOutcome;
    },
  } as unknown as VmBoot;
  const deps = { registry, store, log: NO_LOG, forwards, transfers: new Transfers(), images, boot: booter };
  lifecycle = new VmLifecycle(deps as unknown as VmLifecycleDeps);
  const driver = { name: 'qemu', capabilities: { canPause: true, canSave: true } } as unknown as VmmDriver;
  const pause = new VmPause({ registry, driver });
  const verifier = new FileVerifier(runner);
  sleep = new VmSleep({ registry, lifecycle, pause, images, verifier, driver, runner, log: NO_LOG });
});
afterEach(() => {
  store.close();
  dir[Symbol.dispose]();
});

async function add(state: VmState = 'running', heldBy?: 'user' | 'idle'): Promise<VmRecord> {
  const spec = { ...someVm('image').spec, memoryMib: 1 };
  if (state === 'paused') await machine.pause();
  if (state === 'running' || state === 'paused') registry.setLive(new LiveVm(ID, machine, 'launched'));
  const runtime = { bootId: 'old', ...(heldBy && { heldBy }) };
  return store.insertVm(someVm('image', { id: ID, state, spec, runtime }), '172.16.0');
}

const row = (): VmRecord => registry.row(ID);

/** A VM that was saved. */
async function saved(heldBy: 'user' | 'idle' = 'idle'): Promise<VmRecord> {
  return await sleep.save(await add(), heldBy, operation);
}

test('a saved VM has its memory on disk and no process, and goes on from it', async () => {
  const before = machine;
  const vm = await saved('user');
  assert.deepEqual([vm.state, vm.runtime.heldBy], ['saved', 'user']);
  assert.deepEqual([before.isGone, registry.live(ID)], [true, undefined]);
  assert.ok(await hasSavedMemory(files));
  const running = await sleep.goOn(vm, operation);
  assert.deepEqual(
    [running.state, running.runtime.heldBy, running.runtime.bootId],
    ['running', undefined, 'old'],
  );
  assert.deepEqual(starts, ['kept']);
  assert.equal(existsSync(files.savedDir), false);
});

for (const state of ['running', 'paused'] as const) {
  test(`a save that fails leaves a ${state} VM as it was, with the reason of the save`, async () => {
    const vm = await add(state, state === 'paused' ? 'user' : undefined);
    machine.failure = new BangerError('no_space', 'the disk is full');
    await assert.rejects(sleep.save(vm, 'idle', operation), { code: 'no_space' });
    assert.deepEqual([row().state, machine.state, machine.isGone], [state, state, false]);
    assert.equal(existsSync(files.savedDir), false);
    assert.equal(row().runtime.heldBy, state === 'paused' ? 'user' : undefined);
    // And it can be saved after that, although a machine can be only once for each time it stands still.
    machine.failure = undefined;
    assert.equal((await sleep.save(row(), 'idle', operation)).state, 'saved');
  });
}

test('one that somebody wants is not saved: before the memory is written, and after', async () => {
  const vm = await add();
  let asked = 0;
  assert.equal((await sleep.save(vm, 'idle', operation, () => true)).state, 'running');
  assert.equal(machine.saves, 0);
  assert.equal((await sleep.save(row(), 'idle', operation, () => ++asked === 2)).state, 'running');
  assert.deepEqual([machine.saves, machine.state, machine.isGone], [1, 'running', false]);
  assert.equal(existsSync(files.savedDir), false);
});

test('whoever waits for it while it is being saved gets it without a restore', async () => {
  const vm = await add();
  let waiting: Promise<LiveVm> | undefined;
  machine.whileSaving = () => {
    waiting = sleep.awake(ID, 'exec', never);
  };
  await lifecycle.locked(ID, never, () => sleep.save(vm, 'idle', operation));
  assert.equal((await waiting)?.machine, machine);
  assert.deepEqual([row().state, starts], ['running', []]);
});

test('all who wake it at once share one wake; the row says who did', async () => {
  await saved();
  const lives = await Promise.all(['exec', 'tcp', 'tcp'].map((by) => sleep.awake(ID, by, never)));
  assert.equal(new Set(lives).size, 1);
  assert.deepEqual(starts, ['kept']);
  assert.equal(row().runtime.woken?.by, 'exec');
  assert.equal(await sleep.awake(ID, 'tcp', never), lives[0]);
});

test('one of them may give up', async () => {
  await saved();
  const gate = Promise.withResolvers<void>();
  boot = () => gate.promise;
  const abort = new AbortController();
  const first = sleep.awake(ID, 'exec', abort.signal);
  const second = sleep.awake(ID, 'tcp', never);
  abort.abort();
  await assert.rejects(first, { code: 'cancelled' });
  gate.resolve();
  await second;
  assert.equal(row().state, 'running');
});

test('one that its user paused or saved is not woken', async () => {
  await saved('user');
  await assert.rejects(sleep.running('dev', 'exec', never), {
    code: 'invalid_state',
    hint: 'banger vm resume dev',
  });
  assert.deepEqual(starts, []);
});

const LOSSES: Readonly<Record<string, () => void | Promise<void>>> = {
  'its memory is another': () => writeFileSync(join(files.savedDir, 'memory'), 'x', { flag: 'r+' }),
  'its memory is cut off': () => truncateSync(join(files.savedDir, 'memory'), 4096),
  'its manifest is damaged': () => truncateSync(join(files.savedDir, 'manifest.json')),
  'its manifest is gone': () => rmSync(join(files.savedDir, 'manifest.json')),
  'nobody knows what it was started as': () => truncateSync(files.machineFile, 0),
  'it has run since': () => markAsRan(files),
};
for (const [name, lose] of Object.entries(LOSSES)) {
  test(`when ${name}, it is booted from its disk instead, and the row says so`, async () => {
    const vm = await saved();
    await lose();
    const running = await sleep.goOn(vm, operation);
    assert.deepEqual([running.state, running.runtime.bootId, starts], ['running', 'new', ['best']]);
    assert.match(
      running.runtime.lastError ?? '',
      /^it was booted instead of going on from its saved memory: /,
    );
    assert.equal(existsSync(files.savedDir), false);
    assert.equal(statSync(files.rootDisk).size, 6);
  });
}

test('one that cannot go on here stays saved, and says what differs and the way out', async () => {
  const vm = await saved();
  lifecycle.goOn = async () => {
    throw new BangerError('unsupported', 'the frozen machine was another one: its QEMU was 7.2');
  };
  await assert.rejects(sleep.goOn(vm, operation), {
    code: 'unsupported',
    message: /^VM "dev" cannot go on from its saved memory: .* QEMU was 7\.2$/,
    hint: /banger vm kill dev .* banger vm start dev/,
  });
  assert.deepEqual([row().state, row().runtime.heldBy, await hasSavedMemory(files)], ['saved', 'idle', true]);
});

test('a host that cannot read its memory now costs nothing', async () => {
  const vm = await saved();
  const { savedDir } = files;
  const broken = new BangerError('io_error', 'cannot read', {
    cause: Object.assign(new Error(), { code: 'EMFILE' }),
  });
  const verifier = { verify: async () => Promise.reject(broken), forget: () => undefined };
  const deps = { registry, lifecycle, images: { ensure: async () => ({}) }, verifier, log: NO_LOG };
  const unlucky = new VmSleep(deps as unknown as ConstructorParameters<typeof VmSleep>[0]);
  await assert.rejects(unlucky.goOn(vm, operation), { code: 'io_error' });
  assert.deepEqual([row().state, existsSync(savedDir)], ['saved', true]);
});

test('nobody who gives up costs it its memory', async () => {
  const vm = await saved();
  const abort = new AbortController();
  boot = async (_from, signal) => {
    abort.abort();
    assert.equal(signal.aborted, false);
  };
  assert.equal((await sleep.goOn(vm, { ...operation, signal: abort.signal })).runtime.bootId, 'old');
  assert.deepEqual(starts, ['kept']);
});

test('a guest that was let go on and did not answer is booted', async () => {
  const vm = await saved();
  boot = async (from) => {
    if (typeof from === 'object') throw new BangerError('timeout', 'no answer');
  };
  const running = await sleep.goOn(vm, operation);
  assert.deepEqual([running.runtime.bootId, starts], ['new', ['kept', 'best']]);
});

test('a VM in which a command runs is not saved', async () => {
  const vm = await add();
  const live = registry.live(ID) ?? assert.fail('it does not live');
  Object.defineProperty(live, 'isBusy', { value: true });
  await assert.rejects(sleep.save(vm, 'user', operation), { code: 'in_use', hint: /banger vm pause dev/ });
  assert.equal(machine.state, 'running');
});

test('memory that a save left behind is dropped before the guest goes on', async () => {
  const vm = await add('paused', 'user');
  await sleep.save(vm, 'user', operation);
  // As if the daemon had failed after it was written.
  machine = new SaveableMachine();
  await machine.pause();
  registry.setLive(new LiveVm(ID, machine, 'launched'));
  registry.update(ID, 'paused', { heldBy: 'idle' });
  const resume = machine.resume.bind(machine);
  machine.resume = async () => {
    assert.equal(existsSync(files.savedDir), false);
    await resume();
  };
  await sleep.awake(ID, 'exec', never);
  assert.equal(machine.resumes, 1);
});
