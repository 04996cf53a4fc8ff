/**
 * A full disk (ENOSPC) and a failing one (EIO) at the file calls of a restore, SQLite's among them: exactly the old state or
 * exactly the new one, an error of ours, no litter, and a restore without faults succeeds afterwards.
 *
 * By default every STRIDE-th call of each case, from a first one that differs from case to case; FAULT_STRIDE=1 takes all.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { faultEnvironment } from '../helpers/fault-injection/faults.ts';
import type { FaultCase, FaultSummary } from './fault-child.ts';
import { makeStates, OLD_STATES } from './restore-states.ts';

const STRIDE = Number(process.env['FAULT_STRIDE'] ?? 5);
const PROCESSES = 2;

let root = '';
before(() => {
  // In memory where there is such a place: thousands of restores sync their files for nothing here.
  root = mkdtempSync(join(isWritable('/dev/shm') ? '/dev/shm' : tmpdir(), 'faults-'));
  makeStates(join(root, 'states'));
});
after(() => rmSync(root, { recursive: true }));

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
    const what = `${old}, ${force ? 'force' : 'fresh'}, ${fault} ${persistent ? 'from then on' : 'once'}`;
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
