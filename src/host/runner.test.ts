import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRunner } from './runner.ts';

test('output up to the limit is whole, and more is an error, however the program ends', async () => {
  const zeros = (count: number) =>
    createRunner().run(['head', '-c', String(count), '/dev/zero'], { maxOutputBytes: 65_536 });
  assert.equal((await zeros(65_536)).stdout.length, 65_536);
  for (const count of [65_537, 120_000, 300_000]) {
    await assert.rejects(zeros(count), { code: 'limit_exceeded' });
  }
});

test('a program that ends because its caller has given up is no failure of that program', async () => {
  const abort = new AbortController();
  const running = createRunner().run(['sleep', '60'], { signal: abort.signal });
  abort.abort();
  await assert.rejects(running, { code: 'cancelled', message: 'cancelled' });
});
