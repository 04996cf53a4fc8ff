/**
 * A process that restores with its n-th file call failing, for every n of a case, and looks at what is there afterwards:
 * DIR STATES CASES, with the shim preloaded. Answers with one line of JSON for each case.
 */

import assert from 'node:assert/strict';
import { readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { BangerError } from '../../src/core/errors.ts';
import type { Restored } from '../../src/state/bootstrap.ts';
import { readRestorePlan, writeRestorePlan } from '../../src/state/restore-plan.ts';
import { settleRestore } from '../../src/state/settle.ts';
import { identityOf } from '../../src/state/target-files.ts';
import { arm, disarm, type Fault, type Injected } from '../helpers/fault-injection/faults.ts';
import {
  expectedListing,
  FRESH_STATES,
  listingOf,
  type OldState,
  resetTo,
  restoreInto,
  readStates,
  startAndLook,
  type States,
} from './restore-states.ts';

export interface FaultCase {
  readonly old: OldState;
  readonly force: boolean;
  readonly fault: Fault;
  /** All calls after the n-th fail, too: what a process that is killed there, or a dead disk, leaves. */
  readonly persistent: boolean;
  /** The first n, and from one to the next. */
  readonly first: number;
  readonly stride: number;
  /** Not a restore, but the settling of one that was killed at this step, in a directory of `killedDir`. */
  readonly settleOf?: SettledStep;
}

/** Where a kill leaves the most to undo, and where something to finish; and what must be there then. */
export const SETTLED_STEPS = {
  recheck: 'old',
  rename: 'old',
  sync_directory: 'new',
  remove_plan: 'new',
} as const;
export type SettledStep = keyof typeof SETTLED_STEPS;

export function killedDir(statesDir: string, old: OldState, step: string): string {
  return join(statesDir, `${old}-killed-at-${step}`);
}

export interface FaultSummary {
  readonly one: FaultCase;
  readonly points: number;
  /** What the restore ended with: `old no_space`, `new (ok)`. */
  readonly outcomes: Readonly<Record<string, number>>;
}

const CODES: ReadonlySet<string> = new Set(['no_space', 'io_error']);

async function attempt(dir: string, states: States, force: boolean): Promise<Restored | BangerError> {
  try {
    return await restoreInto(dir, states.snapshot, force);
  } catch (error) {
    assert.ok(error instanceof BangerError, `not an error of ours: ${(error as Error).stack}`);
    return error;
  }
}

/** The sweep spares what a live process made; this one has to die for it. */
function forgetProcess(dir: string): void {
  for (const name of readdirSync(dir)) {
    const dead = name.replace(`.tmp-${process.pid}-`, '.tmp-4194305-');
    if (dead !== name) renameSync(join(dir, name), join(dir, dead));
  }
}

interface Point {
  readonly injected: Injected;
  readonly outcome: string;
}

/** Undefined: the restore ended before it made its n-th call. */
async function restorePoint(
  dir: string,
  states: States,
  one: FaultCase,
  n: number,
): Promise<Point | undefined> {
  const { old, force, fault, persistent } = one;
  resetTo(join(states.dir, old), dir);
  arm(n, fault, persistent);
  const result = await attempt(dir, states, force);
  const injected = disarm();
  const refusal = !force && !FRESH_STATES.includes(old);
  const code = result instanceof BangerError ? result.code : 'ok';
  if (injected.fired === 0) {
    assert.equal(code, refusal ? 'not_fresh' : 'ok', String(result));
    return undefined;
  }
  if (code !== 'ok' && !(refusal && code === 'not_fresh')) assert.ok(CODES.has(code), String(result));
  forgetProcess(dir);
  const found = await startAndLook(dir, old, states);
  if (code === 'ok') assert.equal(found.state, 'new');
  if (refusal) assert.equal(found.state, 'old');
  assert.deepEqual(found.listing, expectedListing(old, found.state, states));
  // From the very bytes of the old state, a restore without a fault was seen to succeed.
  if (!found.untouched) await assertConverges(dir, states, one, found.state);
  return { injected, outcome: `${found.state} ${code}` };
}

/** The same of settling. */
async function settlePoint(
  dir: string,
  states: States,
  one: FaultCase,
  step: SettledStep,
  n: number,
): Promise<Point | undefined> {
  const path = join(dir, 'state.db');
  await resetToKilled(killedDir(states.dir, one.old, step), dir);
  arm(n, one.fault, one.persistent);
  const result = await settleRestore(path).catch((error: unknown) => error);
  const injected = disarm();
  if (injected.fired === 0) {
    assert.equal(result, SETTLED_STEPS[step] === 'old' ? 'undone' : 'finished');
    return undefined;
  }
  if (result instanceof Error)
    assert.ok(result instanceof BangerError && CODES.has(result.code), result.stack);
  const found = await startAndLook(dir, one.old, states);
  assert.equal(found.state, SETTLED_STEPS[step]);
  assert.deepEqual(found.listing, expectedListing(one.old, found.state, states));
  return { injected, outcome: result instanceof BangerError ? result.code : String(result) };
}

/** A plan knows the files it speaks of by their inodes, and copies have others. */
async function resetToKilled(from: string, to: string): Promise<void> {
  resetTo(from, to);
  const plan = await readRestorePlan(join(to, 'state.db'));
  assert.ok(plan);
  const isNew = identityOf(join(from, 'state.db'))?.inode === plan.newInode;
  const main = identityOf(join(to, 'state.db'))?.inode;
  const kept = plan.mode === 'aside' ? identityOf(join(to, plan.keptAs ?? ''))?.inode : undefined;
  await writeRestorePlan(join(to, 'state.db'), {
    ...plan,
    newInode: (isNew ? main : undefined) ?? 1n,
    oldInode: (isNew ? undefined : main) ?? kept ?? 2n,
  });
}

async function assertConverges(
  dir: string,
  states: States,
  { old, force }: FaultCase,
  state: 'old' | 'new',
): Promise<void> {
  const again = await attempt(dir, states, force);
  if (force || (state === 'old' && FRESH_STATES.includes(old))) {
    assert.ok(!(again instanceof BangerError), String(again));
    const found = await startAndLook(dir, old, states);
    assert.equal(found.state, 'new');
    // When the first attempt had come to its end, the second replaced the new database by itself.
    const names = new Set(listingOf(dir));
    if (state === 'new' && names.has('state.db.pre-restore')) names.delete('state.db.pre-restore');
    const wanted = new Set(expectedListing(old, 'new', states));
    wanted.delete(state === 'new' ? 'state.db.pre-restore' : '');
    assert.deepEqual([...names], [...wanted]);
  } else {
    assert.ok(again instanceof BangerError && again.code === 'not_fresh', String(again));
  }
}

async function runCase(dir: string, states: States, one: FaultCase): Promise<FaultSummary> {
  const outcomes: Record<string, number> = {};
  let points = 0;
  for (let n = one.first; ; n += one.stride) {
    try {
      const point =
        one.settleOf === undefined
          ? await restorePoint(dir, states, one, n)
          : await settlePoint(dir, states, one, one.settleOf, n);
      if (point === undefined) return { one, points, outcomes };
      outcomes[point.outcome] = (outcomes[point.outcome] ?? 0) + 1;
      points += 1;
    } catch (error) {
      const where = `${JSON.stringify(one)} at call ${n} (${disarm().name}): ${listingOf(dir).join(' ')}`;
      throw new Error(where, { cause: error });
    }
  }
}

/** Not when a test imports what is above. */
if (process.argv[1] === import.meta.filename) await main();

async function main(): Promise<void> {
  const [dir = '', statesDir = '', cases = '[]'] = process.argv.slice(2);
  const states = readStates(statesDir);
  for (const one of JSON.parse(cases) as readonly FaultCase[]) {
    process.stdout.write(`${JSON.stringify(await runCase(dir, states, one))}\n`);
  }
}
