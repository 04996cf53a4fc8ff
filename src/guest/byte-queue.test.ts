import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteQueue } from './byte-queue.ts';

test('bytes come out in order whatever the sizes and the moments of taking', () => {
  const sizes = fc.oneof(fc.nat(40), fc.constantFrom(4095, 4096, 8191, 8192, 20000));
  const step = fc.record({ size: sizes, takes: fc.nat(2) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new ByteQueue();
      const pushed: Buffer[] = [];
      const taken: Uint8Array[] = [];
      for (const [index, { size, takes }] of steps.entries()) {
        const bytes = Buffer.alloc(size, index);
        pushed.push(bytes);
        queue.push(bytes);
        for (let take = 0; take < takes; take++) taken.push(queue.shift() ?? Buffer.alloc(0));
        const difference = Buffer.concat(pushed).length - Buffer.concat(taken).length;
        assert.equal(queue.bytes, difference);
      }
      taken.push(queue.concat());
      assert.equal(queue.bytes, 0);
      assert(Buffer.concat(pushed).equals(Buffer.concat(taken)));
    }),
  );
});

test('short arrays are packed and copied, long ones are kept as they are', () => {
  const queue = new ByteQueue();
  const short = Buffer.from('ab');
  const long = Buffer.alloc(4096);
  for (let i = 0; i < 100; i++) queue.push(short);
  queue.push(long);
  short.fill(0);
  assert.equal(Buffer.from(queue.shift() ?? []).toString(), 'ab'.repeat(100));
  assert.equal(queue.shift(), long);
  assert.equal(queue.shift(), undefined);
});
