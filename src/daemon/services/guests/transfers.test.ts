import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abandonable } from '../../abandonable.ts';
import { Transfers } from './transfers.ts';

const NEVER = new AbortController().signal;
const endless = (signal: AbortSignal): Promise<never> =>
  abandonable(new Promise<never>(() => undefined), signal);

test('cancelling ends the transfers of one VM, and they say why', async () => {
  const transfers = new Transfers();
  const one = transfers.run('a', NEVER, endless);
  const two = transfers.runAlone('a', NEVER, endless);
  const waits = transfers.runAlone('a', NEVER, async () => 'never');
  const other = transfers.run('b', NEVER, async () => 'done');
  transfers.cancel('a', 'VM "a" is being stopped');
  for (const ended of [one, two, waits])
    await assert.rejects(ended, { code: 'invalid_state', message: 'VM "a" is being stopped' });
  assert.equal(await other, 'done');
  assert.equal(await transfers.run('a', NEVER, async (signal) => signal.aborted), false);
});

test("the caller's own cancellation is told as it was", async () => {
  const transfers = new Transfers();
  const caller = new AbortController();
  const ended = transfers.run('a', caller.signal, endless);
  caller.abort();
  await assert.rejects(ended, { code: 'cancelled', message: 'cancelled' });
});

test('work on a whole workspace waits for the work before it, however that ends', async () => {
  const transfers = new Transfers();
  const order: string[] = [];
  const { promise, reject } = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const first = transfers.runAlone('a', NEVER, async () => {
    order.push('first');
    begun.resolve();
    await promise;
  });
  await begun.promise;
  const second = transfers.runAlone('a', NEVER, async () => order.push('second'));
  await transfers.run('a', NEVER, async () => order.push('beside'));
  assert.deepEqual(order, ['first', 'beside']);
  reject(new Error('failed'));
  await assert.rejects(first, /failed/);
  await second;
  assert.deepEqual(order, ['first', 'beside', 'second']);
});
