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

test('the rest is done behind the answer and before the next turn, whatever became of the caller', async () => {
  const transfers = new Transfers();
  const order: string[] = [];
  const caller = new AbortController();
  const { promise, resolve } = Promise.withResolvers<void>();
  const answer = await transfers.runAlone('a', caller.signal, async (_signal, later) => {
    later(async (signal) => {
      await promise;
      order.push(signal.aborted ? 'ended' : 'rest');
    });
    return 'answer';
  });
  caller.abort();
  const next = transfers.runAlone('a', NEVER, async () => order.push('next'));
  order.push(answer);
  resolve();
  await next;
  assert.deepEqual(order, ['answer', 'rest', 'next']);
});

test('the end of the VM ends the rest, and work that failed has none', async () => {
  const transfers = new Transfers();
  const ended = Promise.withResolvers<unknown>();
  await transfers.runAlone('a', NEVER, async (_signal, later) =>
    later(async (signal) => {
      await endless(signal).catch(() => undefined);
      ended.resolve(signal.reason);
    }),
  );
  transfers.cancel('a', 'VM "a" is being deleted');
  assert.match(String(await ended.promise), /being deleted/);
  const failed = transfers.runAlone('a', NEVER, async (_signal, later) => {
    later(async () => assert.fail('the rest of what failed'));
    throw new Error('failed');
  });
  await assert.rejects(failed, /failed/);
  await transfers.runAlone('a', NEVER, async () => undefined);
});

test('finishing waits for the rest', async () => {
  const transfers = new Transfers();
  let isDone = false;
  const { promise, resolve } = Promise.withResolvers<void>();
  await transfers.runAlone('a', NEVER, async (_signal, later) =>
    later(async () => {
      await promise;
      isDone = true;
    }),
  );
  await transfers.finish('b');
  assert.ok(!isDone);
  const closed = transfers.finish();
  resolve();
  await closed;
  assert.ok(isDone);
});
