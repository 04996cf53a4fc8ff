/** (m) bringing a copy up to date when one of its 5,000 files has changed, against making it: whole commands, VMs that run already. */

import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WorkspacePrepared } from '../src/api/results/workspace.ts';
import { createRunner } from '../src/host/runner.ts';
import { makeRepo } from '../test/fixtures/make-repo.ts';
import type { BenchContext } from './lib/context.ts';
import { templateOf } from './lib/home-template.ts';
import { ProgramHome } from './lib/program.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { median, summarize, timed } from './lib/stats.ts';

const ROUNDS = 3;
const CHANGES_PER_ROUND = 5;
const BAR_RATIO = 0.1;
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
    const first: number[] = [];
    const again: number[] = [];
    // The first round is not counted.
    for (let round = -1; round < ROUNDS; round++) {
      const { made, updates } = await oneVm(home, repo, files);
      if (round < 0) continue;
      first.push(made);
      again.push(...updates);
    }
    row('vm workspace prepare VM PATH, into a VM without a copy', summarize(first));
    row('(m) vm workspace prepare VM, one file has changed', summarize(again));
    const ratio = median(again) / median(first);
    bar(`(m) at most ${BAR_RATIO} × the first time: ${ratio.toFixed(3)} ×`, ratio <= BAR_RATIO);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** A new VM for every round: what it holds once is in its caches. */
async function oneVm(home: ProgramHome, repo: string, files: readonly string[]) {
  await home.banger(['vm', 'run', '-d', '--name', 'dev', ...SIZE]);
  const made = await timed(() => home.banger(['vm', 'workspace', 'prepare', 'dev', repo]));
  const updates: number[] = [];
  for (let number = 0; number < CHANGES_PER_ROUND; number++) {
    const path = files[Math.floor(((number + 1) * files.length) / (CHANGES_PER_ROUND + 1))] ?? '';
    appendFileSync(join(repo, path), 'one more line\n');
    updates.push(await timed(() => home.banger(['vm', 'workspace', 'prepare', 'dev'])));
  }
  const checked = await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev']);
  if (checked.outcome !== 'unchanged') throw new Error('the copy is not what the repository is');
  await home.banger(['vm', 'delete', 'dev']);
  return { made, updates };
}

async function tracked(repo: string): Promise<readonly string[]> {
  const listed = await createRunner().run(['git', '-C', repo, 'ls-files', '-z']);
  return listed.stdout.toString('utf8').split('\0').filter(Boolean);
}
