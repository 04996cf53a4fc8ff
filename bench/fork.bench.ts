/** Forks of a running VM: until all of them can be used, and what each costs in memory and on the disk. */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { VmForked } from '../src/api/results/vm.ts';
import type { BenchContext } from './lib/context.ts';
import { templateOf } from './lib/home-template.ts';
import { ProgramHome } from './lib/program.ts';
import { bar, columns, figure, heading, row } from './lib/report.ts';
import { summarize } from './lib/stats.ts';

const ROUNDS = 5;
const COUNT = 10;
const MANY = 30;
const GUEST_MEMORY_MIB = 512;
const READY_BAR_MS = 1500;
const MEMORY_BAR_MIB = 60;
const SIZE = ['--vcpu', '1', '--memory', `${GUEST_MEMORY_MIB}MiB`] as const;

export async function forkBench(context: BenchContext): Promise<void> {
  heading(`Forks: copies of a running VM of ${GUEST_MEMORY_MIB} MiB`);
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['vm', 'run', '-d', '--name', 'source', ...SIZE]);
  // In the wake of the first start of its kind a template is made: not beside what is measured.
  await templateOf(home);
  columns();
  const rounds: VmForked[] = [];
  // The first one is not counted.
  for (let round = -1; round < ROUNDS; round++) {
    const forked = await fork(home, COUNT, `r${round + 1}`);
    if (round >= 0) rounds.push(forked);
    if (round < ROUNDS - 1) await remove(home, forked);
    else await costs(home, forked);
  }
  const ready = summarize(rounds.map(({ elapsedMs }) => elapsedMs));
  row(`(j) vm fork --count ${COUNT}, until all are ready for exec`, ready);
  row('    the source stands still', summarize(rounds.map(({ pauseMs }) => pauseMs)));
  bar(`(j) p50 at most ${READY_BAR_MS} ms`, ready.p50 <= READY_BAR_MS);
  const many = await fork(home, MANY, 'many');
  const answered = await Promise.all(
    many.vms.map(({ name }) => home.time(['vm', 'exec', name, '--', 'true'])),
  );
  figure(`(k) ${MANY} forks at once`, `${(many.elapsedMs / 1000).toFixed(1)} s, ${answered.length} answered`);
  bar(`(k) none of ${MANY} failed`, answered.length === MANY);
  await remove(home, many);
}

async function fork(home: ProgramHome, count: number, name: string): Promise<VmForked> {
  return await home.json<VmForked>(['vm', 'fork', 'source', '--count', String(count), '--name', name]);
}

async function remove(home: ProgramHome, { vms }: VmForked): Promise<void> {
  await home.banger(['vm', 'delete', ...vms.map(({ name }) => name)]);
}

async function costs(home: ProgramHome, forked: VmForked): Promise<void> {
  for (const { name } of forked.vms) await home.banger(['vm', 'exec', name, '--', 'true']);
  const memory = summarize(forked.vms.map(({ pid }) => privateDirtyMib(pid ?? 0)));
  row('(l) private dirty memory after its first command', memory, 'MiB');
  const disk = summarize(forked.vms.map(({ vmDir }) => ownMib(vmDir)));
  row('(l) disk', disk, 'MiB');
  bar(`(l) memory at most ${MEMORY_BAR_MIB} MiB (p50)`, memory.p50 <= MEMORY_BAR_MIB);
  await remove(home, forked);
}

/** The whole process, the VMM's own memory included: proc(5), smaps_rollup. */
function privateDirtyMib(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Private_Dirty:\s+(\d+) kB/m.exec(text)?.[1] ?? Number.NaN) / 1024;
}

/** Blocks of files that no other directory has too. */
function ownMib(dir: string): number {
  const files = readdirSync(dir).map((name) => statSync(join(dir, name)));
  const blocks = files.filter(({ nlink }) => nlink === 1).reduce((sum, file) => sum + file.blocks, 0);
  return (blocks * 512) / 1024 ** 2;
}
