/** (a) the floor and (b) `vm run --rm -- true`, in turn; (c) the floor of a clone. */

import { BareMachine } from './lib/bare-machine.ts';
import { BareTemplate } from './lib/bare-template.ts';
import type { BenchContext } from './lib/context.ts';
import { ProgramHome } from './lib/program.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { interleave, summarize, timed } from './lib/stats.ts';

const RUNS = 10;
const BAR_MS = 400;

export async function startBench(context: BenchContext): Promise<void> {
  heading('Start: from nothing to the first command done');
  columns();
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['vm', 'list']);
  const { a, b } = await interleave(
    RUNS,
    () => floor(context),
    () => home.time(['vm', 'run', '--rm', '--', 'true']),
  );
  row('(a) floor: bare QEMU, kernel and initramfs, first command', summarize(a));
  row('(b) banger vm run --rm -- true, daemon warm, cold boot', summarize(b));
  row('    b - a, pair by pair', summarize(b.map((value, index) => value - (a[index] ?? 0))));
  await restoreFloor(context);
  bar(`(b) p50 at most (a) p50 + ${BAR_MS} ms`, summarize(b).p50 <= summarize(a).p50 + BAR_MS);
}

/** The least a clone takes: a machine that was booted and frozen before, restored until its agent answers. */
async function restoreFloor(context: BenchContext): Promise<void> {
  await using template = await BareTemplate.make(context);
  const hello: number[] = [];
  const command: number[] = [];
  // The first one is not counted.
  for (let run = -1; run < RUNS; run++) {
    const begun = performance.now();
    await using machine = await template.restore(await template.prepare());
    if (run >= 0) hello.push(performance.now() - begun);
    await machine.run(['true']);
    if (run >= 0) command.push(performance.now() - begun);
  }
  row('(c) floor of a clone: bare QEMU, restored, hello', summarize(hello));
  row('    … and its first command', summarize(command));
}

/** From spawning QEMU to the end of /bin/true; taking the machine down again is not counted. */
async function floor(context: BenchContext): Promise<number> {
  let machine: BareMachine | undefined;
  try {
    return await timed(async () => {
      machine = await BareMachine.boot(context);
      await machine.run(['true']);
    });
  } finally {
    await machine?.[Symbol.asyncDispose]();
  }
}
