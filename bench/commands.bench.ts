/** (c) `vm exec` against `version`, and (d) `vm list` against a bare node, each pair in turn. */

import type { BenchContext } from './lib/context.ts';
import { NODE, ProgramHome, runProcess } from './lib/program.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { interleave, median, summarize, timed } from './lib/stats.ts';

const RUNS = 40;
const EXEC_BAR_MS = 35;
const LIST_BAR_RATIO = 2;

export async function commandsBench(context: BenchContext): Promise<void> {
  heading('Commands: whole processes, daemon warm, one VM running');
  columns();
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['vm', 'create', '--name', 'dev']);
  const exec = await interleave(
    RUNS,
    () => home.time(['version']),
    () => home.time(['vm', 'exec', 'dev', '--', 'true']),
  );
  row('banger version', summarize(exec.a));
  row('(c) banger vm exec NAME -- true', summarize(exec.b));
  const extra = median(exec.b) - median(exec.a);
  bar(`(c) p50 at most banger version + ${EXEC_BAR_MS} ms: + ${extra.toFixed(1)} ms`, extra <= EXEC_BAR_MS);
  const list = await interleave(
    RUNS,
    () => timed(() => runProcess([NODE, '-e', '0'])),
    () => home.time(['vm', 'list']),
  );
  row('node -e 0', summarize(list.a));
  row('(d) banger vm list', summarize(list.b));
  const ratio = median(list.b) / median(list.a);
  bar(`(d) p50 at most ${LIST_BAR_RATIO} × node -e 0: ${ratio.toFixed(2)} ×`, ratio <= LIST_BAR_RATIO);
}
