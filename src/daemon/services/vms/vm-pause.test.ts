import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeGuest } from '../../../../test/helpers/fake-guest.ts';
import { StateDirectory } from '../../../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../../../test/helpers/store-records.ts';
import { FRAME_TYPES } from '../../../core/channel/frame.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord, VmState } from '../../../core/model/vm.ts';
import { openStore, type Store } from '../../../store/store.ts';
import type { Machine, MachineRunState, VmmDriver } from '../../../vmm/driver.ts';
import { LiveVm } from './live-vm.ts';
import { VmPause } from './vm-pause.ts';
import { VmRegistry } from './vm-registry.ts';

const ID = '1'.repeat(32);
/** docs/agent-protocol.md, "Operations". */
const CLOCK = 5;
const operation = { signal: new AbortController().signal, progress: () => undefined, about: () => undefined };

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
beforeEach(() => {
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image' }));
  registry = new VmRegistry({ store, paths: dir.paths });
});
afterEach(() => {
  store.close();
  dir[Symbol.dispose]();
});

interface Scene {
  readonly vm: VmRecord;
  readonly pause: VmPause;
  readonly machine: { state: MachineRunState };
}

/** A VM in a state, with a machine that is so too. */
function scene(state: VmState, change: Partial<Machine> = {}, canPause = true): Scene {
  const vm = store.insertVm(someVm('image', { id: ID, state }), '172.16.0');
  const machine = {
    state: state === 'paused' ? 'paused' : ('running' as MachineRunState),
    exited: new Promise<never>(() => undefined),
    pause: async () => void (machine.state = 'paused'),
    resume: async () => void (machine.state = 'running'),
    release: () => undefined,
    ...change,
  };
  registry.setLive(new LiveVm(ID, machine as unknown as Machine, 'launched'));
  const driver = { name: 'qemu', capabilities: { canPause } } as unknown as VmmDriver;
  return { vm, machine, pause: new VmPause({ registry, driver }) };
}

const state = (): VmState => registry.row(ID).state;

test('a VM is paused, and that counts as use of it', async () => {
  const { vm, machine, pause } = scene('running');
  assert.equal((await pause.pause(vm, 'user', operation)).state, 'paused');
  assert.equal(machine.state, 'paused');
  assert.ok(registry.row(ID).lastTouchedAt > vm.lastTouchedAt);
});

test('a pause that fails is undone: the guest may come to stand still all the same', async () => {
  const { vm, machine, pause } = scene('running', {
    pause: async () => {
      machine.state = 'paused';
      throw new BangerError('timeout', 'no answer');
    },
  });
  await assert.rejects(pause.pause(vm, 'user', operation), { code: 'timeout' });
  assert.deepEqual([machine.state, state()], ['running', 'running']);
});

test('so is not a second one, of a VM that was paused before', async () => {
  const { vm, machine, pause } = scene('paused', {
    pause: async () => {
      throw new BangerError('timeout', 'no answer');
    },
  });
  await assert.rejects(pause.pause(vm, 'user', operation), { code: 'timeout' });
  assert.deepEqual([machine.state, state()], ['paused', 'paused']);
});

test('a driver that cannot pause says so, and what can be done instead', async () => {
  const { vm, machine, pause } = scene('running', {}, false);
  await assert.rejects(pause.pause(vm, 'user', operation), {
    code: 'unsupported',
    hint: 'banger vm stop dev',
  });
  assert.deepEqual([machine.state, state()], ['running', 'running']);
});

test('the clock of a guest that goes on is set before anybody may run a command in it', async () => {
  const seen: [MachineRunState, VmState, bigint][] = [];
  const { vm, machine, pause } = scene('paused', {
    connectChannel: async () =>
      new FakeGuest({
        onFrame: (frame, self) => {
          if (frame.type !== FRAME_TYPES.open || frame.payload[0] !== CLOCK) return;
          const ns = Buffer.from(frame.payload).readBigUInt64LE(1);
          seen.push([machine.state, state(), ns / 1_000_000n]);
          self.close(frame.stream, { kind: 'done', status: 0 });
        },
      }).hostSide,
  });
  const before = BigInt(Date.now());
  assert.equal((await pause.resume(vm, operation)).state, 'running');
  assert.equal(seen.length, 1);
  const [machineState, rowState, clockMs] = seen[0] as [MachineRunState, VmState, bigint];
  assert.deepEqual([machineState, rowState], ['running', 'paused']);
  assert.ok(clockMs >= before && clockMs <= BigInt(Date.now()), `${clockMs}`);
});

test('a guest whose clock cannot be set goes on, and that is said', async () => {
  const { vm, machine, pause } = scene('paused', {
    connectChannel: async () => {
      throw new BangerError('timeout', 'nobody answers');
    },
  });
  await assert.rejects(pause.resume(vm, operation), {
    code: 'guest_failed',
    message: 'VM "dev" goes on, but its clock could not be set: nobody answers',
    hint: /banger vm resume dev/,
  });
  assert.deepEqual([machine.state, state()], ['running', 'running']);
});

test('a machine that cannot be resumed stays paused', async () => {
  const { vm, pause } = scene('paused', {
    resume: async () => {
      throw new BangerError('vmm_failed', 'it does not');
    },
  });
  await assert.rejects(pause.resume(vm, operation), { code: 'vmm_failed' });
  assert.equal(state(), 'paused');
});
