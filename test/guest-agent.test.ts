/** The tests of the guest's agent, which are in C: guest/test. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const TIMEOUT_MS = 300_000;

test('the C tests of the agent pass', () => {
  const guest = join(import.meta.dirname, '..', 'guest');
  const made = spawnSync('make', ['-s', '-C', guest, 'test'], { encoding: 'utf8', timeout: TIMEOUT_MS });
  assert.equal(made.status, 0, `${made.stdout}${made.stderr}`);
  assert.match(made.stdout, /^\d+ tests, 0 failed$/m);
});
