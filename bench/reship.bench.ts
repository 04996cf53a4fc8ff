/** (m) bringing a copy up to date when one of its 5,000 files has changed, against making it, in VMs that run already. */

import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkspacePrepared } from '../src/api/results/workspace.ts';
import { createRunner } from '../src/host/runner.ts';
import { makeRepo } from '../test/fixtures/make-repo.ts';
import type { BenchContext } from './lib/context.ts';
import { templateOf } from './lib/home-template.ts';
import { ProgramHome } from './lib/program.ts';
import { bar, columns, figure, heading, row } from './lib/report.ts';
import { median, summarize, timed } from './lib/stats.ts';

const ROUNDS = 3;
const CHANGES_PER_ROUND = 5;
const BAR_RATIO = 0.1;
/** Nobody changes a file sooner: what goes on behind the last answer is done by then. */
const EDIT_MS = 500;
const SIZE = ['--vcpu', '2', '--memory', '512MiB'] as const;

export async function reshipBench(context: BenchContext): Promise<void> {
  heading('Workspace prepare: 5,000 files, 50 MB; then again after one of them has changed');
  const dir = mkdtempSync(join(tmpdir(), 'br-'));
  try {
    // Without a machine that is made for the next VM beside what is measured.
    await using home = new ProgramHome(context.stateDir, '[templates]\nstandby = false\n');
    const repo = join(dir, 'repo');
    await makeRepo(repo);
    await home.banger(['vm', 'run', '-d', '--name', 'warm', ...SIZE]);
    await templateOf(home);
    await home.banger(['vm', 'delete', 'warm']);
    columns();
    const files = await tracked(repo);
    const times: ShippingTimes = { first: [], again: [], atOnce: [] };
    // The first round is not counted.
    await oneVm(home, repo, files, { first: [], again: [], atOnce: [] });
    for (let round = 0; round < ROUNDS; round++) await oneVm(home, repo, files, times);
    const { first, again, atOnce } = times;
    row('vm workspace prepare VM PATH: the whole command', summarize(wholeOf(first)));
    row('vm workspace prepare VM, one file has changed', summarize(wholeOf(again)));
    row('the same, at once after the one before', summarize(wholeOf(atOnce)));
    row('(m) what the first says it took', summarize(saidOf(first)));
    row('(m) what the others say they took', summarize(saidOf(again)));
    const whole = median(wholeOf(again)) / median(wholeOf(first));
    figure('one file, whole commands with the start of each', `${whole.toFixed(3)} × the first`);
    const ratio = median(saidOf(again)) / median(saidOf(first));
    bar(`(m) at most ${BAR_RATIO} × the first time: ${ratio.toFixed(3)} ×`, ratio <= BAR_RATIO);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

interface Shipping {
  /** The whole command, ms. */
  readonly whole: number;
  /** From the request to the answer, as the command says, ms. */
  readonly said: number;
}

interface ShippingTimes {
  readonly first: Shipping[];
  readonly again: Shipping[];
  readonly atOnce: Shipping[];
}

const wholeOf = (all: readonly Shipping[]): number[] => all.map(({ whole }) => whole);
const saidOf = (all: readonly Shipping[]): number[] => all.map(({ said }) => said);

/** A new VM for every round: what it holds once is in its caches. */
async function oneVm(
  home: ProgramHome,
  repo: string,
  files: readonly string[],
  times: ShippingTimes,
): Promise<void> {
  await home.banger(['vm', 'run', '-d', '--name', 'dev', ...SIZE]);
  const prepare = async (...path: string[]): Promise<Shipping> => {
    let said = 0;
    const whole = await timed(async () => {
      const argv = ['vm', 'workspace', 'prepare', 'dev', ...path];
      said = (await home.json<WorkspacePrepared>(argv)).elapsedMs;
    });
    return { whole, said };
  };
  times.first.push(await prepare(repo));
  const change = async (number: number): Promise<Shipping> => {
    const path = files[Math.floor((number * files.length) / (2 * CHANGES_PER_ROUND + 1))] ?? '';
    appendFileSync(join(repo, path), 'one more line\n');
    return await prepare();
  };
  for (let number = 1; number <= CHANGES_PER_ROUND; number++) {
    await delay(EDIT_MS);
    times.again.push(await change(2 * number - 1));
    times.atOnce.push(await change(2 * number));
  }
  const checked = await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev']);
  if (checked.outcome !== 'unchanged') throw new Error('the copy is not what the repository is');
  await home.banger(['vm', 'delete', 'dev']);
}

async function tracked(repo: string): Promise<readonly string[]> {
  const listed = await createRunner().run(['git', '-C', repo, 'ls-files', '-z']);
  return listed.stdout.toString('utf8').split('\0').filter(Boolean);
}
