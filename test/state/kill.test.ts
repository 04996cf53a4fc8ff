/**
 * SIGKILL at every step of a restore, whatever was there: exactly the old state or exactly the new one, and no litter. Steps that
 * are the same with force and without are killed with force; with `THOROUGH=1` without it, too.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { BangerError } from '../../src/core/errors.ts';
import { BOOTSTRAP_STEPS } from '../../src/state/bootstrap-steps.ts';
import { THOROUGH } from '../helpers/thorough.ts';
import {
  expectedListing,
  fingerprint,
  FRESH_STATES,
  OLD_STATES,
  type OldState,
  makeStates,
  resetTo,
  restoreInto,
  startAndLook,
  type States,
} from './restore-states.ts';

/** What is there when a restore was killed as the step began. */
const EXPECTED: Readonly<Record<string, 'old' | 'new'>> = {
  verify: 'old',
  lock: 'old',
  settle: 'old',
  sweep: 'old',
  check_target: 'old',
  build: 'old',
  migrate: 'old',
  check: 'old',
  seal: 'old',
  write_plan: 'old',
  fold: 'old',
  keep_previous: 'old',
  recheck: 'old',
  rename: 'old',
  sync_directory: 'new',
  remove_plan: 'new',
};

/** The last step of a restore that is refused because the target is not fresh. */
const REFUSED_AT = 'check_target';

let root = '';
let script = '';
let states: States;
before(async () => {
  root = mkdtempSync(join(tmpdir(), 'kill-'));
  states = makeStates(join(root, 'states'));
  // In one file: the process is started well over a hundred times, and would load as many modules each time.
  script = join(root, 'restore-child.mjs');
  const entryPoints = [join(import.meta.dirname, 'restore-child.ts')];
  await build({
    entryPoints,
    outfile: script,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });
});
after(() => rmSync(root, { recursive: true }));

/** What the process said, or the signal that ended it. */
async function restoreIn(dir: string, force: boolean, killAt: string): Promise<string> {
  const argv = [script, dir, states.dir, force ? 'force' : 'fresh', killAt];
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_COMPILE_CACHE: join(root, 'compile-cache') },
  });
  let text = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  await once(child, 'close');
  assert.ok(child.signalCode !== null || child.exitCode === 0, errors);
  return child.signalCode ?? text;
}

async function killAndLook(old: OldState, force: boolean, step: string): Promise<void> {
  const dir = join(root, `${old}-${force ? 'force' : 'fresh'}-${step}`);
  resetTo(join(states.dir, old), dir);
  assert.equal(await restoreIn(dir, force, step), 'SIGKILL');
  const found = await startAndLook(dir, old, states);
  const expected = EXPECTED[step];
  assert.equal(found.state, expected);
  assert.deepEqual(found.listing, expectedListing(old, found.state, states));

  // Once more, by a process that nobody kills.
  const left = fingerprint(dir);
  const refused = !force && (found.state === 'new' || !FRESH_STATES.includes(old));
  try {
    await restoreInto(dir, states.snapshot, force);
    assert.ok(!refused);
    assert.equal((await startAndLook(dir, old, states)).state, 'new');
  } catch (error) {
    assert.ok(refused && error instanceof BangerError && error.code === 'not_fresh', String(error));
    assert.deepEqual(fingerprint(dir), left);
  }
  rmSync(dir, { recursive: true });
}

/** Two at a time. */
async function killEverywhere(old: OldState, force: boolean, steps: readonly string[]): Promise<void> {
  const left = [...steps];
  const work = async (): Promise<void> => {
    for (let step = left.shift(); step !== undefined; step = left.shift()) {
      const where = `${old}, ${force ? 'force' : 'fresh'}, killed at ${step}`;
      await killAndLook(old, force, step).catch((cause: unknown) => {
        throw new Error(where, { cause });
      });
    }
  };
  await Promise.all([work(), work()]);
}

test('every step has its row in the table of what a kill leaves', () => {
  assert.deepEqual(Object.keys(EXPECTED), [...BOOTSTRAP_STEPS]);
});

test('a restore announces every step, in order', async () => {
  const dir = join(root, 'announced');
  resetTo(join(states.dir, 'crashed'), dir);
  const steps: string[] = [];
  await restoreInto(dir, states.snapshot, true, { onStep: (step) => steps.push(step) });
  assert.deepEqual(steps, [...BOOTSTRAP_STEPS]);
});

for (const old of OLD_STATES) {
  for (const force of [false, true]) {
    const refused = !force && !FRESH_STATES.includes(old);
    test(`killed at every step: ${old}, ${force ? 'force' : 'fresh'}`, async () => {
      const dir = join(root, 'whole');
      resetTo(join(states.dir, old), dir);
      const answer = await restoreIn(dir, force, 'never');
      assert.match(answer, refused ? /^not_fresh$/ : /^restored /);
      const end = BOOTSTRAP_STEPS.indexOf(REFUSED_AT) + 1;
      // Beyond that check the same is done with force and without.
      const isSameBeyond = !force && !THOROUGH;
      await killEverywhere(
        old,
        force,
        refused || isSameBeyond ? BOOTSTRAP_STEPS.slice(0, end) : BOOTSTRAP_STEPS,
      );
    });
  }
}
