import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReceiveCredit, SendCredit } from './credit.ts';
import { FrameError, INITIAL_WINDOW_BYTES } from './frame.ts';

test('a sender and a receiver that follow the rules agree, and the sender is never stuck for good', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 65536 }), { maxLength: 100 }), (sizes) => {
      const sender = new SendCredit();
      const receiver = new ReceiveCredit();
      for (const size of sizes) {
        assert(sender.available > 0);
        const sent = Math.min(size, sender.available);
        sender.use(sent);
        receiver.use(sent);
        const grant = receiver.take(sent);
        if (grant > 0) {
          receiver.grant(grant);
          sender.add(grant);
        }
        assert.equal(sender.available, receiver.outstanding);
        assert(sender.available <= INITIAL_WINDOW_BYTES);
      }
    }),
  );
});

test('grants wait for half the window', () => {
  const credit = new ReceiveCredit();
  credit.use(INITIAL_WINDOW_BYTES);
  assert.equal(credit.take(INITIAL_WINDOW_BYTES / 2 - 1), 0);
  assert.equal(credit.take(1), INITIAL_WINDOW_BYTES / 2);
});

test('overruns are refused', () => {
  const sender = new SendCredit();
  assert.throws(() => sender.use(INITIAL_WINDOW_BYTES + 1), FrameError);
  assert.throws(() => sender.add(2 ** 31), FrameError);
  const receiver = new ReceiveCredit();
  assert.throws(() => receiver.use(INITIAL_WINDOW_BYTES + 1), FrameError);
  assert.throws(() => receiver.grant(1), FrameError);
  receiver.use(10);
  receiver.grant(10);
  assert.throws(() => receiver.grant(1), FrameError);
});
