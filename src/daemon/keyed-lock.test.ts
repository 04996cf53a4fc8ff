import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyedLock } from './keyed-lock.ts';

const never = new AbortController().signal;

test('one at a time per key, in order; other keys do not wait', async () => {
  const lock = new KeyedLock();
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = lock.run('a', never, async () => {
    await gate.promise;
    order.push('a1');
  });
  const second = lock.run('a', never, async () => {
    order.push('a2');
  });
  await lock.run('b', never, async () => {
    order.push('b');
  });
  assert.ok(lock.isHeld('a'));
  gate.resolve();
  await Promise.all([first, second]);
  assert.deepEqual(order, ['b', 'a1', 'a2']);
  assert.equal(lock.isHeld('a'), false);
});

test('a waiter that gives up leaves, and those behind it still get their turn', async () => {
  const lock = new KeyedLock();
  const gate = Promise.withResolvers<void>();
  const holder = lock.run('a', never, () => gate.promise);
  const abort = new AbortController();
  const quitter = lock.run('a', abort.signal, async () => assert.fail('it gave up'));
  const patient = lock.run('a', never, async () => 'got it');
  abort.abort();
  await assert.rejects(quitter, { code: 'cancelled' });
  gate.resolve();
  await holder;
  assert.equal(await patient, 'got it');
});

test('work that throws frees the lock', async () => {
  const lock = new KeyedLock();
  await assert.rejects(
    lock.run('a', never, async () => {
      throw new Error('boom');
    }),
    /boom/,
  );
  assert.equal(await lock.run('a', never, async () => 1), 1);
});
