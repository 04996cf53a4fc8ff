import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../test/helpers/state-directory.ts';
import { someImage, someVm } from '../../test/helpers/store-records.ts';
import { BangerError } from '../core/errors.ts';
import type { VmRecord, VmState } from '../core/model/vm.ts';
import { type Log, NO_LOG } from '../host/log.ts';
import { openStore, type Store } from '../store/store.ts';
import { IdleKeeper, type IdleOptions } from './idle-keeper.ts';
import { KeyedLock } from './keyed-lock.ts';
import type { LiveVm } from './services/vms/live-vm.ts';
import type { PortTraffic } from './services/ports/vm-ports.ts';
import { VmRegistry } from './services/vms/vm-registry.ts';

const ONE = '1'.repeat(32);
const TWO = '2'.repeat(32);
const BEGAN_MS = Date.parse('2026-01-01T00:00:00.000Z');
const never = new AbortController().signal;

/** What a guest does, for the keeper. */
interface Guest {
  isBusy: boolean;
  leases: number;
  cpuMs: number;
  answers: boolean;
}

let dir: StateDirectory;
let store: Store;
let registry: VmRegistry;
let locks: KeyedLock;
let nowMs: number;
let guests: Map<string, Guest>;
let traffic: Map<string, PortTraffic>;
let warnings: unknown[];
let whilePausing: () => void;
let broken: Set<string>;
/** Every state that a VM was put in, or was to be. */
let moves: VmState[];
beforeEach(() => {
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  store.upsertImage(someImage({ id: 'image' }));
  registry = new VmRegistry({ store, paths: dir.paths });
  locks = new KeyedLock();
  nowMs = BEGAN_MS;
  guests = new Map();
  traffic = new Map();
  warnings = [];
  whilePausing = () => undefined;
  broken = new Set();
  moves = [];
});
afterEach(() => {
  store.close();
  dir[Symbol.dispose]();
});

function add(id: string, change: Partial<VmRecord> = {}): Guest {
  const at = new Date(nowMs).toISOString();
  store.insertVm(
    someVm('image', { id, name: id.slice(0, 3), state: 'running', lastTouchedAt: at, ...change }),
    '172.16.0',
  );
  const guest: Guest = { isBusy: false, leases: 0, cpuMs: 0, answers: true };
  guests.set(id, guest);
  const live = {
    id,
    get isBusy() {
      return guest.isBusy;
    },
    machine: { handles: { pid: Number(id.slice(0, 4)) } },
    agent: async () => {
      if (!guest.answers) throw new BangerError('timeout', 'the guest did not answer');
      return { health: async () => ({ leases: guest.leases }) };
    },
  };
  registry.setLive(live as unknown as LiveVm);
  return guest;
}

function keeper(pauseAfterMs: number, saveAfterMs: number): IdleKeeper {
  const log: Log = { ...NO_LOG, warn: (fields) => warnings.push(fields) };
  const move = async (vm: VmRecord, state: VmState): Promise<VmRecord> => {
    whilePausing();
    moves.push(state);
    if (broken.has(vm.id)) throw new BangerError('vmm_failed', 'it does not');
    return registry.update(vm.id, state, { heldBy: state === 'running' ? undefined : 'idle' });
  };
  const options: IdleOptions = {
    ...{ registry, log, pauseAfterMs, saveAfterMs },
    lifecycle: { locked: (id, signal, work) => locks.run(id, signal, work) },
    pause: { pause: (vm) => move(vm, 'paused'), resume: (vm) => move(vm, 'running') },
    sleep: {
      save: async (vm, _heldBy, _operation, isUsed) => {
        const saved = await move(vm, 'saved');
        return isUsed?.() === true ? registry.update(vm.id, 'running', { heldBy: undefined }) : saved;
      },
    },
    forwards: { traffic: (id) => traffic.get(id) ?? { openConnections: 0, lastTrafficAtMs: undefined } },
    host: {
      wallMs: () => nowMs,
      monotonicMs: () => nowMs - BEGAN_MS,
      usageOf: (pid) => {
        const [, guest] = [...guests].find(([id]) => Number(id.slice(0, 4)) === pid) ?? [];
        return guest && { cpuMs: guest.cpuMs, rssBytes: 1 };
      },
    },
  };
  return new IdleKeeper(options);
}

const state = (id: string): VmState => registry.row(id).state;

/** Rounds every second, for so many. */
async function pass(idle: IdleKeeper, seconds: number, each: () => void = () => undefined): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    nowMs += 1000;
    each();
    await idle.round(never);
  }
}

test('a VM that nobody uses is paused after one time and saved after the other', async () => {
  add(ONE);
  const idle = keeper(10_000, 30_000);
  await idle.round(never);
  await pass(idle, 9);
  assert.equal(state(ONE), 'running');
  await pass(idle, 1);
  assert.deepEqual([state(ONE), registry.row(ONE).runtime.heldBy], ['paused', 'idle']);
  await pass(idle, 19);
  assert.equal(state(ONE), 'paused');
  await pass(idle, 1);
  assert.equal(state(ONE), 'saved');
  await pass(idle, 60);
  assert.equal(state(ONE), 'saved');
});

test('either may be off', async () => {
  add(ONE);
  const saving = keeper(0, 10_000);
  await saving.round(never);
  await pass(saving, 9);
  assert.equal(state(ONE), 'running');
  await pass(saving, 1);
  assert.equal(state(ONE), 'saved');
  add(TWO);
  const pausing = keeper(10_000, 0);
  await pass(pausing, 100);
  assert.equal(state(TWO), 'paused');
});

const USES: Readonly<Record<string, (guest: Guest) => void>> = {
  'a command under way': (guest) => void (guest.isBusy = true),
  'CPU time': (guest) => void (guest.cpuMs += 60),
  'being touched': touch,
  'bytes through a port': () =>
    void traffic.set(ONE, { openConnections: 0, lastTrafficAtMs: nowMs - BEGAN_MS }),
};

function touch(): void {
  store.touchVm(ONE, new Date(nowMs).toISOString());
}

for (const [name, use] of Object.entries(USES)) {
  test(`${name} keeps a VM awake, and it counts from its end`, async () => {
    const guest = add(ONE);
    const idle = keeper(10_000, 0);
    await pass(idle, 50, () => use(guest));
    assert.equal(state(ONE), 'running');
    guest.isBusy = false;
    await pass(idle, 9);
    assert.equal(state(ONE), 'running');
    await pass(idle, 2);
    assert.equal(state(ONE), 'paused');
  });
}

test('a lease keeps it awake', async () => {
  const guest = add(ONE);
  const idle = keeper(10_000, 0);
  await pass(idle, 50, () => void (guest.leases = 1));
  assert.equal(state(ONE), 'running');
  guest.leases = 0;
  await pass(idle, 11);
  assert.equal(state(ONE), 'paused');
});

test('a little CPU time is none: a guest has its clock', async () => {
  const guest = add(ONE);
  await pass(keeper(10_000, 0), 11, () => (guest.cpuMs += 40));
  assert.equal(state(ONE), 'paused');
});

test('open connections hold off the save, not the pause', async () => {
  add(ONE);
  traffic.set(ONE, { openConnections: 1, lastTrafficAtMs: 0 });
  const idle = keeper(10_000, 20_000);
  await pass(idle, 60);
  assert.equal(state(ONE), 'paused');
  traffic.set(ONE, { openConnections: 0, lastTrafficAtMs: 0 });
  await pass(idle, 1);
  assert.equal(state(ONE), 'saved');
});

test('one that its user paused stays as it is, and one without a process is left alone', async () => {
  add(ONE, { state: 'paused', runtime: { heldBy: 'user' } });
  add(TWO, { state: 'stopped' });
  await pass(keeper(10_000, 20_000), 60);
  assert.deepEqual([state(ONE), state(TWO)], ['paused', 'stopped']);
});

for (const how of ['paused', 'saved'] as const) {
  test(`one that is used while it is being ${how} goes on: whoever uses it has not seen it sleep`, async () => {
    const guest = add(ONE);
    const idle = how === 'paused' ? keeper(10_000, 0) : keeper(0, 10_000);
    whilePausing = () => {
      guest.isBusy = true;
    };
    await pass(idle, 20);
    assert.equal(state(ONE), 'running');
    guest.isBusy = false;
    whilePausing = touch;
    await pass(idle, 12);
    assert.equal(state(ONE), 'running');
    whilePausing = () => void traffic.set(ONE, { openConnections: 1, lastTrafficAtMs: nowMs });
    await pass(idle, 12);
    assert.equal(state(ONE), 'running');
  });
}

test('what is used while the keeper waits for its lock is looked at again', async () => {
  const guest = add(ONE);
  const idle = keeper(10_000, 0);
  await pass(idle, 9);
  const held = Promise.withResolvers<void>();
  const using = locks.run(ONE, never, () => held.promise);
  nowMs += 2000;
  const round = idle.round(never);
  guest.isBusy = true;
  held.resolve();
  await Promise.all([using, round]);
  assert.deepEqual([state(ONE), moves], ['running', []]);
});

test('one whose lock somebody keeps does not keep the others awake, and is no trouble', async () => {
  add(ONE);
  add(TWO);
  const idle = keeper(10_000, 0);
  await pass(idle, 9);
  const held = Promise.withResolvers<void>();
  const using = locks.run(ONE, never, () => held.promise);
  await pass(idle, 2);
  assert.deepEqual([state(ONE), state(TWO), warnings], ['running', 'paused', []]);
  held.resolve();
  await using;
});

test('nor does one that fails or does not answer, which is tried again after a while', async () => {
  add(ONE);
  const silent = add(TWO);
  silent.answers = false;
  add('3'.repeat(32));
  broken.add(ONE);
  const idle = keeper(10_000, 0);
  await pass(idle, 12);
  assert.deepEqual([state(ONE), state(TWO), state('3'.repeat(32))], ['running', 'running', 'paused']);
  assert.equal(warnings.length, 2);
  broken.clear();
  silent.answers = true;
  await pass(idle, 12);
  assert.deepEqual([state(ONE), state(TWO)], ['paused', 'paused']);
});

test('a round that is broken off puts nothing more to sleep, and says nothing', async () => {
  add(ONE);
  add(TWO);
  const idle = keeper(10_000, 0);
  await pass(idle, 9);
  const stop = new AbortController();
  broken.add(ONE);
  whilePausing = () => stop.abort();
  nowMs += 5000;
  await idle.round(stop.signal);
  assert.deepEqual([state(ONE), state(TWO), warnings], ['running', 'running', []]);
});
