import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { processEnd } from './process-end.ts';

test('waits until the process is gone', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  let ended = false;
  const end = processEnd(child.pid ?? 0, 60_000).finally(() => {
    ended = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(ended, false);
  child.kill('SIGKILL');
  assert.equal(await end, true);
});

test('gives up on one that stays', async () => {
  assert.equal(await processEnd(process.pid, 30), false);
});

test('one that is not there is gone', async () => {
  assert.equal(await processEnd(2 ** 22 + 1, 60_000), true);
});
