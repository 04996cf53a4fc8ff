/** A collection of snapshots whose disk fails, or is full, at every single file call: see collection-fault-child.ts. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createRunner } from '../../src/host/runner.ts';
import { faultEnvironment } from '../helpers/fault-injection/faults.ts';

test('ENOSPC once, EIO once and EIO for good, at every call of put and prune', async () => {
  // In memory where there is such a place: nothing here needs to survive a power cut.
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'banger-collection-faults-'));
  try {
    const work = join(dir, 'work');
    mkdirSync(work, { mode: 0o700 });
    const env = { ...faultEnvironment(dir, work), NODE_TEST_CONTEXT: undefined };
    const child = join(import.meta.dirname, 'collection-fault-child.ts');
    const { stdout } = await createRunner().run([process.execPath, child], { env });
    const points = JSON.parse(stdout.toString()) as Record<string, number>;
    // The shim saw what it is to see: otherwise nothing was tested.
    for (const call of ['rename', 'unlink', 'fsync', 'write']) {
      assert.ok(
        Object.keys(points).some((name) => name.startsWith(call)),
        JSON.stringify(points),
      );
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});
