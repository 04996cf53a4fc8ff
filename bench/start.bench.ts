/**
 * (a) the floor and (b) `vm run --cold`, in turn; (c) the floor of a clone and (d) `vm run` from a template, in turn, each alone:
 * what the daemon does in the wake of a start is over by then. (e) is (d) without a pause.
 */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DaemonStatus } from '../src/api/results/daemon.ts';
import { bareDriver, BareMachine } from './lib/bare-machine.ts';
import type { BenchContext } from './lib/context.ts';
import { restoreBare, templateOf } from './lib/home-template.ts';
import { ProgramHome } from './lib/program.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { interleave, summarize, timed } from './lib/stats.ts';

const RUN = ['vm', 'run', '--rm', '--', 'true'] as const;
const COLD_RUNS = 10;
const RUNS = 50;
const COLD_BAR_MS = 400;
const BAR_MS = 120;
const RUNS_ON_END = 20;
const STILL_POLL_MS = 100;
const STILL_TRIES = 100;

export async function startBench(context: BenchContext): Promise<void> {
  heading('Start: from nothing to the first command done, as whole processes, the daemon warm');
  columns();
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['vm', 'list']);
  const cold = await interleave(
    COLD_RUNS,
    () => coldFloor(context),
    () => home.time(['vm', 'run', '--cold', '--rm', '--', 'true']),
  );
  row('(a) floor: bare QEMU, kernel and initramfs, first command', summarize(cold.a));
  row('(b) banger vm run --cold --rm -- true', summarize(cold.b));
  row('    b - a, pair by pair', summarize(cold.b.map((value, index) => value - (cold.a[index] ?? 0))));
  await home.banger(['image', 'warm']);
  const template = await templateOf(home);
  const driver = bareDriver(join(home.dir, 'cache', 'tsc-khz.json'));
  // The first one has no machine that waits, and makes the next one.
  await home.time(RUN);
  const warm = await interleave(
    RUNS,
    async () => {
      await still(home);
      return await restoreFloor(() => restoreBare(driver, template, context));
    },
    async () => {
      await still(home);
      return await home.time(RUN);
    },
  );
  const onEnd: number[] = [];
  for (let run = 0; run < RUNS_ON_END; run++) onEnd.push(await home.time(RUN));
  row('(c) floor: bare QEMU, the same template, until hello', summarize(warm.a));
  row('(d) banger vm run --rm -- true, from a template', summarize(warm.b));
  row('    d - c, pair by pair', summarize(warm.b.map((value, index) => value - (warm.a[index] ?? 0))));
  row('(e) the same, one right after the other', summarize(onEnd));
  const [b, d] = [summarize(cold.b), summarize(warm.b)];
  bar(`(b) p50 at most (a) p50 + ${COLD_BAR_MS} ms`, b.p50 <= summarize(cold.a).p50 + COLD_BAR_MS);
  bar(`(d) p50 at most (c) p50 + ${BAR_MS} ms`, d.p50 <= summarize(warm.a).p50 + BAR_MS);
  bar('(d) p95 at most twice its p50', d.p95 <= 2 * d.p50);
}

/** The machine that is made for the next start is there, and stands still. */
async function still(home: ProgramHome): Promise<void> {
  for (let tries = 1; tries <= STILL_TRIES; tries++) {
    await sleep(STILL_POLL_MS);
    if ((await home.json<DaemonStatus>(['daemon', 'status'])).standby) return;
  }
  throw new Error('no machine waits for the next start');
}

/** From spawning QEMU to the end of /bin/true; taking the machine down again is not counted. */
function coldFloor(context: BenchContext): Promise<number> {
  return untilReady(async () => {
    const machine = await BareMachine.boot(context);
    return { machine, ready: machine.run(['true']) };
  });
}

/** From preparing a clone's disk to its hello. */
function restoreFloor(restore: () => Promise<BareMachine>): Promise<number> {
  return untilReady(async () => ({ machine: await restore(), ready: Promise.resolve() }));
}

async function untilReady(
  start: () => Promise<{ readonly machine: BareMachine; readonly ready: Promise<unknown> }>,
): Promise<number> {
  let machine: BareMachine | undefined;
  try {
    return await timed(async () => {
      const started = await start();
      machine = started.machine;
      await started.ready;
    });
  } finally {
    await machine?.[Symbol.asyncDispose]();
  }
}
