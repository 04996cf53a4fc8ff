/** Clocks of copied VMs: the wall clock is right, and time since boot never goes back. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dialogue, drop, fork, forkOf, leaveRunning, snapshot, source } from '../../helpers/copies.ts';
import { TestHome } from '../../helpers/test-home.ts';

const MAX_SKEW_MS = 100;
/** The narrowest of so many readings says most. */
const READINGS = 12;
/** A clock that was not set would be late by this much. */
const KEPT_MS = 3000;
const CLOCK = 'import sys, time\nfor line in sys.stdin: print(time.time_ns(), flush=True)';

/** Notes every step back, and that it is alive, for as long as it runs. */
const MONOTONIC = `
import os, time
last = 0
n = 0
while True:
    now = time.monotonic_ns()
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    if now < last: open('/dev/shm/back', 'a').write('%d after %d\\n' % (now, last))
    last = now
    n += 1
    if n % 5 == 0:
        open('/dev/shm/last.new', 'w').write('%d %d' % (n, now))
        os.rename('/dev/shm/last.new', '/dev/shm/last')
    if n == 10: open('/dev/shm/ready', 'w').close()
    time.sleep(0.01)
`;

describe('clocks of copies', () => {
  let home: TestHome;
  before(async () => {
    home = new TestHome();
    await source(home);
    await leaveRunning(home, 'dev', MONOTONIC);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('the wall clock is right in the copies and in the source, at once after a fork', async () => {
    const copies = await fork(home, 'dev', 3);
    for (const vm of [...copies, 'dev']) await assertClock(home, vm);
    await drop(home, copies);
  });

  test('and in what is made of a snapshot later', async () => {
    await snapshot(home, 'dev', 'then');
    await sleep(KEPT_MS);
    const copies = await forkOf(home, 'then', 2);
    for (const vm of copies) await assertClock(home, vm);
    await drop(home, copies);
    await home.ok(['vm', 'snapshot', 'restore', 'then', '--force']);
    await assertClock(home, 'dev');
  });

  test('time since boot goes on in each from where it was, and never back', async () => {
    const earlier = await reading(home, 'dev');
    await snapshot(home, 'dev', 'monotonic');
    const copies = [...(await fork(home, 'dev', 2)), ...(await forkOf(home, 'monotonic', 1))];
    await home.ok(['vm', 'snapshot', 'restore', 'monotonic', '--force']);
    for (const vm of [...copies, 'dev']) {
      const first = await reading(home, vm);
      await sleep(100);
      const second = await reading(home, vm);
      assert.ok(first.count > earlier.count && second.count > first.count, `${vm} stands still`);
      assert.ok(first.ns > earlier.ns && second.ns > first.ns, `${vm}'s clock went back`);
      assert.equal(await home.guest(vm, 'sh', '-c', 'cat /dev/shm/back 2>/dev/null || true'), '');
    }
    await drop(home, copies);
  });
});

async function assertClock(home: TestHome, vm: string): Promise<void> {
  await using clock = new Dialogue(home, vm, 'python3', '-uc', CLOCK);
  const readings: { readonly skewMs: number; readonly widthMs: number }[] = [];
  for (let count = 0; count < READINGS; count += 1) {
    const before = hostMs();
    const guestMs = Number(BigInt(await clock.ask('now')) / 1000n) / 1000;
    const after = hostMs();
    // How far outside the time in which it was read: inside, it cannot be known to be wrong.
    const skewMs = Math.max(before - guestMs, guestMs - after, 0);
    readings.push({ skewMs, widthMs: after - before });
  }
  const best = readings.reduce((a, b) => (b.widthMs < a.widthMs ? b : a));
  assert.ok(best.widthMs < MAX_SKEW_MS, `the host is too busy to tell: ${best.widthMs} ms`);
  assert.ok(best.skewMs <= MAX_SKEW_MS, `${vm}'s clock is ${best.skewMs} ms off`);
}

function hostMs(): number {
  return performance.timeOrigin + performance.now();
}

async function reading(home: TestHome, vm: string): Promise<{ readonly count: number; readonly ns: number }> {
  const [count, ns] = (await home.guest(vm, 'cat', '/dev/shm/last')).split(' ').map(Number);
  return { count: count ?? Number.NaN, ns: ns ?? Number.NaN };
}
