/** A disk that is full from any file call of an export or import on: `no_space`, and nothing is left. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createRunner } from '../../src/host/runner.ts';
import { faultEnvironment } from '../helpers/fault-injection/faults.ts';

test('ENOSPC from every call on, of an export and of an import', async () => {
  const root = mkdtempSync(join(tmpdir(), 'snapshot-faults-'));
  try {
    const dir = join(root, 'work');
    mkdirSync(dir);
    const env = { ...faultEnvironment(root, dir), NODE_TEST_CONTEXT: undefined };
    const child = join(import.meta.dirname, 'fault-child.ts');
    const { stdout } = await createRunner().run([process.execPath, child, dir], { env, timeoutMs: 300_000 });
    const { exports, imports, failed } = JSON.parse(stdout.toString()) as {
      readonly exports: number;
      readonly imports: number;
      readonly failed: Readonly<Record<string, number>>;
    };
    // The shim saw what it is to see: otherwise nothing was tested.
    assert.ok(exports > 3 && imports > 8 && Object.keys(failed).length > 2, stdout.toString());
  } finally {
    rmSync(root, { recursive: true });
  }
});
