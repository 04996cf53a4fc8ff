import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { settled } from '../../test/helpers/test-home.ts';
import type { ForwardedPort, VmState } from '../core/model/vm.ts';
import type { GuestPort } from '../guest/answers.ts';
import { NO_LOG } from '../host/log.ts';
import { PortWatch, type PortWatchOptions } from './port-watch.ts';
import type { LiveVm } from './services/vms/live-vm.ts';

const ID = '1'.repeat(32);
const listener = (port: number): GuestPort => ({
  ...{ protocol: 'tcp', address: '0.0.0.0', port },
  ...{ pid: 1, process: 'server' },
});

let nowMs: number;
let cpuMs: number;
let isBusy: boolean;
let state: VmState;
let live: LiveVm | undefined;
let listening: readonly GuestPort[];
let answer: () => Promise<readonly GuestPort[]>;
let asked: number;
let forwarded: readonly ForwardedPort[] | undefined;
let written: (readonly ForwardedPort[] | undefined)[];
let watch: PortWatch;

beforeEach(() => {
  nowMs = 1_000_000;
  cpuMs = 0;
  isBusy = false;
  state = 'running';
  listening = [];
  asked = 0;
  forwarded = undefined;
  written = [];
  answer = async () => listening;
  live = liveVm();
  const registry = {
    live: () => live,
    allLive: () => (live === undefined ? [] : [live]),
    find: () => ({ state, runtime: { forwarded } }),
    update: (_id: string, _state: VmState, change: { forwarded?: readonly ForwardedPort[] }) => {
      forwarded = change.forwarded;
      written.push(change.forwarded);
    },
  } as unknown as PortWatchOptions['registry'];
  watch = new PortWatch({
    registry,
    forwards: { follow: async (_id, ports) => ports.map(({ port }) => ({ port })) },
    log: NO_LOG,
    host: { monotonicMs: () => nowMs, usageOf: () => ({ cpuMs, rssBytes: 0 }) },
  });
});
afterEach(() => watch.stop());

function liveVm(): LiveVm {
  const ports = async (): Promise<readonly GuestPort[]> => {
    asked++;
    return await answer();
  };
  return {
    id: ID,
    machine: { handles: { pid: 1 } },
    get isBusy() {
      return isBusy;
    },
    agent: async () => ({ ports }),
  } as unknown as LiveVm;
}

/** One look, `seconds` after the one before, in which the VMM took that much CPU time. */
async function tick(seconds = 1, tookCpuMs = 0): Promise<number> {
  nowMs += seconds * 1000;
  cpuMs += tookCpuMs;
  const before = asked;
  watch.tick();
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  return asked - before;
}

test('a VM in which nothing happens is asked rarely', async () => {
  let times = 0;
  for (let second = 0; second < 300; second++) times += await tick(1, 15);
  assert.ok(times >= 9 && times <= 10, `${times}`);
});

test('one whose VMM takes CPU time is asked at once, and so is one with a command', async () => {
  assert.equal(await tick(), 0);
  assert.equal(await tick(1, 100), 1);
  assert.equal(await tick(1), 0);
  isBusy = true;
  assert.equal(await tick(), 1);
  assert.equal(await tick(), 0);
  assert.equal(await tick(), 1);
});

test('what its answers take is no reason to ask it again', async () => {
  answer = async () => {
    cpuMs += 100;
    return listening;
  };
  await tick();
  assert.equal(await tick(1, 100), 1);
  for (let second = 0; second < 20; second++) assert.equal(await tick(), 0);
});

test('one in which something begins or ends is asked soon, and for a while', async () => {
  watch.start();
  watch.stirred(ID);
  watch.stirred(ID);
  await settled(() => asked === 1);
  assert.equal(asked, 1);
  assert.equal(await tick(), 1);
  assert.equal(await tick(3), 1);
  assert.equal(await tick(3), 0);
});

test('nobody is asked who was not to be: turned off, stopped, or not running', async () => {
  watch.stirred(ID);
  await sleep(250);
  assert.equal(asked, 0);
  isBusy = true;
  for (const one of ['paused', 'saved', 'starting', 'stopping'] as const) {
    state = one;
    assert.equal(await tick(60), 0, one);
  }
  live = undefined;
  assert.equal(await tick(60), 0);
});

test('what it says is remembered when it is something new', async () => {
  isBusy = true;
  await tick();
  await tick(2);
  assert.deepEqual(written, []);
  listening = [listener(80)];
  await tick(2);
  await tick(2);
  assert.deepEqual(written, [[{ port: 80 }]]);
  listening = [];
  await tick(2);
  assert.deepEqual(written.at(-1), undefined);
  assert.equal(written.length, 2);
});

test('what comes from a VM that has ended or was put to sleep meanwhile is not used', async () => {
  await tick();
  listening = [listener(80)];
  for (const end of [() => (state = 'paused'), () => (live = undefined)]) {
    const asking = Promise.withResolvers<readonly GuestPort[]>();
    answer = () => asking.promise;
    assert.equal(await tick(60), 1);
    end();
    asking.resolve(listening);
    await sleep(5);
    assert.deepEqual(written, []);
    state = 'running';
  }
});

test('one that takes long to answer, not only once, is asked less often, one at a time', async () => {
  /** How long after an answer that took so many seconds it is asked again, in seconds, looking each half. */
  const pauseAfter = async (tookS: number): Promise<number> => {
    const asking = Promise.withResolvers<readonly GuestPort[]>();
    answer = () => asking.promise;
    let waitedS = 0;
    while ((await tick(0.5, 500)) === 0) waitedS += 0.5;
    assert.equal(await tick(tookS, 500), 0);
    asking.resolve([]);
    await sleep(5);
    return waitedS;
  };
  await tick(0.5);
  await pauseAfter(0.3);
  assert.equal(await pauseAfter(0.3), 0);
  assert.equal(await pauseAfter(60), 2.5);
  assert.equal(await pauseAfter(60), 2.5);
  // A minute is no reason to wait for ten.
  assert.equal(await pauseAfter(0), 4.5);
});

test('one that does not answer is let alone for a while, unless it has been put to sleep', async () => {
  isBusy = true;
  await tick();
  answer = async () => {
    throw new Error('it is silent');
  };
  assert.equal(await tick(2), 1);
  assert.equal(await tick(4), 0);
  assert.equal(await tick(4), 1);
  answer = async () => {
    state = 'paused';
    throw new Error('it stands still');
  };
  assert.equal(await tick(30), 1);
  state = 'running';
  assert.equal(await tick(2), 1);
});

test('another machine of the same VM is begun with anew', async () => {
  await tick();
  answer = async () => {
    throw new Error('it is silent');
  };
  assert.equal(await tick(30), 1);
  live = liveVm();
  // This one has not been silent.
  assert.equal(await tick(1), 0);
  assert.equal(await tick(1, 100), 1);
});
