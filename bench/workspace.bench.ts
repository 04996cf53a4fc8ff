/** (f) shipping a repository into a running guest until it can be written there, against piping a tar of it in. */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRunner } from '../src/host/runner.ts';
import { planWorkspace } from '../src/workspace/plan.ts';
import { buildWorkspaceImage } from '../src/workspace/ship.ts';
import { makeRepo } from '../test/fixtures/make-repo.ts';
import { BareMachine } from './lib/bare-machine.ts';
import type { BenchContext } from './lib/context.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { interleave, median, summarize, timed } from './lib/stats.ts';

const RUNS = 5;
const BAR_RATIO = 0.4;

export async function workspaceBench(context: BenchContext): Promise<void> {
  heading('Workspace: 5,000 files, 50 MB, into a running guest until a file can be written in it');
  columns();
  const dir = mkdtempSync(join(tmpdir(), 'bw-'));
  try {
    const repo = join(dir, 'repo');
    await makeRepo(repo);
    const { a, b } = await interleave(
      RUNS,
      () => withMachine(context, (machine) => tarIn(machine, repo)),
      () => withMachine(context, (machine) => ship(machine, repo, join(dir, 'scratch'))),
    );
    row('tar piped through the raw channel, tar -x in the guest', summarize(a));
    row('(f) planned, shipped as a disk, mounted, written to', summarize(b));
    const ratio = median(b) / median(a);
    bar(`(f) at most ${BAR_RATIO} × the tar: ${ratio.toFixed(2)} ×`, ratio <= BAR_RATIO);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** A fresh guest for every run: one that already holds the files has them in its caches. */
async function withMachine(
  context: BenchContext,
  work: (machine: BareMachine) => Promise<void>,
): Promise<number> {
  await using machine = await BareMachine.boot(context);
  await machine.run(['mkdir', '-p', '/root/repo']);
  return await timed(() => work(machine));
}

async function tarIn(machine: BareMachine, repo: string): Promise<void> {
  const tar = spawn('tar', ['-C', repo, '--exclude=./.git', '-cf', '-', '.'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await machine.run(['tar', '-C', '/root/repo', '-xf', '-'], tar.stdout);
  await machine.run(['sh', '-c', 'echo x > /root/repo/new-file']);
}

async function ship(machine: BareMachine, repo: string, scratchDir: string): Promise<void> {
  const runner = createRunner();
  const { signal } = new AbortController();
  const plan = await planWorkspace({ path: repo, includeUntracked: false, runner, signal });
  const imagePath = machine.transferDisk;
  await buildWorkspaceImage({ plan, imagePath, scratchDir, runner, signal, onProgress: () => undefined });
  const target = '/root/repo';
  await machine.agent.mount({
    device: '/dev/vdb',
    type: 'squashfs',
    target,
    readOnly: false,
    label: 'workspace',
  });
  await machine.run(['sh', '-c', 'echo x > /root/repo/new-file']);
}
