/**
 * A process that exports and imports a snapshot with its n-th file call failing, for every n: DIR, with the shim preloaded.
 * Answers with the calls that failed, as JSON.
 */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { BangerError } from '../../src/core/errors.ts';
import { arm, disarm } from '../helpers/fault-injection/faults.ts';
import { SnapshotHome } from './snapshot-home.ts';

const [dir = ''] = process.argv.slice(2);
const file = join(dir, 'out.snap');
const failed: Record<string, number> = {};

function homeAt(name: string): SnapshotHome {
  mkdirSync(join(dir, name));
  return new SnapshotHome(join(dir, name));
}

/** Until a run meets no fault any more. @returns how many there were */
async function everywhere(
  run: () => Promise<unknown>,
  assertUnchanged: () => void,
  undo: () => Promise<void>,
): Promise<number> {
  for (let n = 1; ; n++) {
    arm(n, 'ENOSPC', true);
    let injected;
    let outcome: unknown = 'done';
    try {
      await run();
    } catch (error) {
      outcome = error;
    } finally {
      injected = disarm();
    }
    if (injected.fired === 0) {
      assert.equal(outcome, 'done');
      return n - 1;
    }
    failed[injected.name] = (failed[injected.name] ?? 0) + 1;
    if (outcome === 'done') {
      await undo();
      continue;
    }
    assert.ok(outcome instanceof BangerError, `${injected.name}: ${String((outcome as Error).stack)}`);
    assert.equal(outcome.code, 'no_space', `${injected.name} ${n}: ${outcome.message}`);
    assertUnchanged();
  }
}

const here = homeAt('here');
const there = homeAt('there');
await here.add('dev-1', true);
const exports = await everywhere(
  () => here.export('dev-1', file),
  () => assert.deepEqual(readdirSync(dir).toSorted(), ['here', 'there']),
  async () => rmSync(file),
);
const imports = await everywhere(
  () => there.import(file, { trust: true }),
  () => assert.deepEqual(there.dirs(), []),
  async () => {
    for (const id of there.dirs()) await there.store.remove(id);
  },
);
process.stdout.write(JSON.stringify({ exports, imports, failed }));
