/**
 * A full disk (ENOSPC) and a failing one (EIO) at the file calls of a restore, SQLite's among them: exactly the old state or
 * exactly the new one, an error of ours, no litter, and a restore without faults succeeds afterwards.
 *
 * By default every STRIDE-th call of each case, from a first one that differs from case to case; FAULT_STRIDE=1 takes all.
 */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { faultEnvironment } from '../helpers/fault-injection/faults.ts';
import {
  type FaultCase,
  type FaultSummary,
  killedDir,
  SETTLED_STEPS,
  type SettledStep,
} from './fault-child.ts';
import { makeStates, OLD_STATES, type OldState, resetTo } from './restore-states.ts';

const STRIDE = Number(process.env['FAULT_STRIDE'] ?? 6);
const PROCESSES = 2;

/** One whose old database is copied, and one whose files are renamed. */
const SETTLED_STATES = ['crashed', 'damaged'] as const;

let root = '';
before(() => {
  // In memory where there is such a place: thousands of restores sync their files for nothing here.
  root = mkdtempSync(join(isWritable('/dev/shm') ? '/dev/shm' : tmpdir(), 'faults-'));
  makeStates(join(root, 'states'));
  for (const old of SETTLED_STATES) for (const step of Object.keys(SETTLED_STEPS)) makeKilled(old, step);
});
after(() => rmSync(root, { recursive: true }));

function makeKilled(old: OldState, step: string): void {
  const statesDir = join(root, 'states');
  const dir = killedDir(statesDir, old, step);
  resetTo(join(statesDir, old), dir);
  const script = join(import.meta.dirname, 'restore-child.ts');
  const child = spawnSync(process.execPath, [script, dir, statesDir, 'force', step], { encoding: 'utf8' });
  assert.equal(child.signal, 'SIGKILL', child.stderr);
}

function isWritable(dir: string): boolean {
  try {
    accessSync(dir, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

async function inChild(name: string, cases: readonly FaultCase[]): Promise<readonly FaultSummary[]> {
  const dir = join(root, name);
  const script = join(import.meta.dirname, 'fault-child.ts');
  const child = spawn(process.execPath, [script, dir, join(root, 'states'), JSON.stringify(cases)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...faultEnvironment(root, dir) },
  });
  let text = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  await once(child, 'close');
  assert.equal(child.exitCode, 0, errors);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as FaultSummary);
}

async function injectEverywhere(t: TestContext, cases: readonly FaultCase[]): Promise<void> {
  const parts = Array.from({ length: PROCESSES }, (_, part) =>
    inChild(
      `work-${part}`,
      cases.filter((_, index) => index % PROCESSES === part),
    ),
  );
  const summaries = (await Promise.all(parts)).flat();
  assert.equal(summaries.length, cases.length);
  for (const { one, points, outcomes } of summaries) {
    const { old, force, fault, persistent } = one;
    const how = one.settleOf === undefined ? (force ? 'force' : 'fresh') : `settling ${one.settleOf}`;
    const what = `${old}, ${how}, ${fault} ${persistent ? 'from then on' : 'once'}`;
    t.diagnostic(`${what}: ${points} points, ${JSON.stringify(outcomes)}`);
    assert.ok(points > 0, what);
  }
  t.diagnostic(`${summaries.reduce((sum, { points }) => sum + points, 0)} points`);
}

for (const fault of ['ENOSPC', 'EIO'] as const) {
  test(`${fault} at the file calls of a restore`, async (t) => {
    const cases = OLD_STATES.flatMap((old) =>
      [false, true].flatMap((force) =>
        [false, true].map((persistent) => ({ old, force, fault, persistent, stride: STRIDE })),
      ),
    );
    await injectEverywhere(
      t,
      cases.map((one, index) => ({ ...one, first: 1 + (index % STRIDE) })),
    );
  });
}

for (const fault of ['ENOSPC', 'EIO'] as const) {
  test(`${fault} at the file calls of settling a killed restore`, async (t) => {
    const steps = Object.keys(SETTLED_STEPS) as SettledStep[];
    const cases = SETTLED_STATES.flatMap((old) =>
      steps.flatMap((settleOf) =>
        [false, true].map((persistent) => {
          return { old, force: true, fault, persistent, settleOf, first: 1, stride: 1 };
        }),
      ),
    );
    await injectEverywhere(t, cases);
  });
}
