/**
 * Puts and prunes with the n-th file call failing, for every n: whatever fails, the collection stays whole, and doing it
 * again comes to the same end. Runs with the shim preloaded; answers a line of JSON.
 */

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { BangerError } from '../../src/core/errors.ts';
import { SnapshotCollection } from '../../src/state/snapshot-collection.ts';
import { verify } from '../../src/state/verify.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { arm, disarm, type Fault } from '../helpers/fault-injection/faults.ts';
import { addVm, smallState, snapshotOf } from '../helpers/state-fixture.ts';

interface Scenario {
  /** Makes what is there before. */
  readonly prepare: (collection: SnapshotCollection, dir: string) => Promise<void>;
  readonly act: (collection: SnapshotCollection) => Promise<unknown>;
  /** Problems that were there before may still be. */
  readonly mayBeDamaged?: boolean;
  /** Always there, and good. */
  readonly kept: readonly string[];
  /** What there is in the end, by refs and files. */
  readonly final: readonly string[];
}

const state = smallState();
const [first, packed, second, third] = [
  snapshotOf(state),
  snapshotOf(state, 'zstd'),
  ...['a', 'b'].map((name) => {
    addVm(state, name);
    return snapshotOf(state);
  }),
] as const;
assert.ok(second !== undefined && third !== undefined);
const [one, two, three] = [first, second, third].map(({ manifest }) => manifest.checksum) as [
  string,
  string,
  string,
];

function filesOf(...digests: readonly string[]): readonly string[] {
  return digests.flatMap((digest) => [digest.slice(7), `${digest.slice(7)}.manifest.json`]).toSorted();
}

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'put into nothing': {
    prepare: async () => undefined,
    act: async (collection) => await collection.put(first, ['latest', 'mine']),
    kept: [],
    final: ['latest', 'mine', ...filesOf(one)],
  },
  'put a second': {
    prepare: async (collection) => void (await collection.put(first, ['latest'])),
    act: async (collection) => await collection.put(second, ['latest']),
    kept: [one],
    final: ['latest', ...filesOf(one, two)],
  },
  'put what is there, otherwise encoded': {
    prepare: async (collection) => void (await collection.put(first, ['latest'])),
    act: async (collection) => await collection.put(packed, ['mine']),
    kept: [one],
    final: ['latest', 'mine', ...filesOf(one)],
  },
  'put what is there, damaged': {
    prepare: async (collection) => truncateSync((await collection.put(first, ['latest'])).path, 10),
    act: async (collection) => await collection.put(packed, ['mine']),
    mayBeDamaged: true,
    kept: [],
    final: ['latest', 'mine', ...filesOf(one)],
  },
  prune: {
    prepare: async (collection) => {
      await collection.put(first, ['auto-1']);
      await collection.put(second, ['mine', 'auto-2']);
      await collection.put(third, ['latest']);
    },
    act: async (collection) => await collection.prune({ keep: 1, dryRun: false }),
    kept: [two, three],
    final: ['auto-2', 'latest', 'mine', ...filesOf(two, three)],
  },
};

/** The sweep spares what a live process made; this one has to die for it. */
function forgetProcess(dir: string): void {
  for (const name of readdirSync(dir)) {
    const dead = name.replace(`.tmp-${process.pid}-`, '.tmp-4194305-');
    if (dead !== name) renameSync(join(dir, name), join(dir, dead));
  }
}

async function assertWhole(collection: SnapshotCollection, scenario: Scenario): Promise<void> {
  const entries = await collection.list();
  for (const { digest, problem } of entries) {
    if (problem !== undefined) assert.ok(scenario.mayBeDamaged, `${digest}: ${problem}`);
    if (scenario.mayBeDamaged === true) continue;
    const found = await collection.read(digest);
    verify(found.data, found.manifestBytes, { migrations: MIGRATIONS, digest });
  }
  const digests = new Set(entries.map(({ digest }) => digest));
  for (const digest of scenario.kept) assert.ok(digests.has(digest), `${digest} is lost`);
}

async function onePoint(
  dir: string,
  scenario: Scenario,
  n: number,
  fault: Fault,
  persistent: boolean,
): Promise<string> {
  const collection = new SnapshotCollection(dir, MIGRATIONS);
  arm(n, fault, persistent);
  const error = await scenario.act(collection).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  const injected = disarm();
  if (injected.fired === 0) assert.equal(error, undefined);
  if (error !== undefined) {
    assert.ok(error instanceof BangerError, String(error));
    assert.ok(['no_space', 'io_error'].includes(error.code), `${error.code}: ${error.message}`);
  }
  for (const name of ['sha256', 'refs']) {
    if (readdirSync(dir).includes(name)) forgetProcess(join(dir, name));
  }
  await assertWhole(collection, scenario);
  await scenario.act(collection);
  await assertWhole(collection, { ...scenario, mayBeDamaged: false });
  const files = ['refs', 'sha256'].flatMap((name) => readdirSync(join(dir, name)).toSorted());
  assert.deepEqual(files, scenario.final);
  return injected.fired === 0 ? '' : injected.name;
}

async function main(): Promise<void> {
  // cpSync gives directories the mode of the day.
  process.umask(0o077);
  const work = process.env['FAULT_DIR'];
  assert.ok(work);
  const points: Record<string, number> = {};
  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    const template = join(work, '..', name);
    mkdirSync(template);
    await scenario.prepare(new SnapshotCollection(template, MIGRATIONS), template);
    for (const [fault, persistent] of [
      ['ENOSPC', false],
      ['EIO', false],
      ['EIO', true],
    ] as const) {
      for (let n = 1; ; n += 1) {
        rmSync(work, { recursive: true });
        cpSync(template, work, { recursive: true });
        const failed = await onePoint(work, scenario, n, fault, persistent).catch((cause: unknown) => {
          throw new Error(`${name}: ${fault}${persistent ? ' from' : ''} call ${n}`, { cause });
        });
        if (failed === '') break;
        points[failed] = (points[failed] ?? 0) + 1;
      }
    }
  }
  process.stdout.write(JSON.stringify(points));
}

await main();
