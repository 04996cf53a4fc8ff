import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FrameError } from './frame.ts';
import { encodePreamble, PREAMBLE_BYTES, PreambleScanner } from './preamble.ts';

const nonce = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
const otherNonce = new Uint8Array(16).fill(0xb4);

function bytes(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

test('a preamble has the bytes of docs/agent-protocol.md', () => {
  const hex = Buffer.from(encodePreamble(nonce)).toString('hex');
  assert.equal(hex, 'b4424e47520d0a1a' + '0100' + '000000000000' + '0102030405060708090a0b0c0d0e0f10');
  assert.throws(() => encodePreamble(new Uint8Array(15)), RangeError);
});

test('finds a preamble after any leftovers, however the bytes are cut', () => {
  const leftovers = fc.uint8Array({ maxLength: 100 });
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(
      leftovers,
      fc.uint8Array({ maxLength: 50 }),
      cuts,
      fc.nat(65535),
      (before, rest, sizes, version) => {
        const all = bytes(before, encodePreamble(nonce, version), rest);
        const scanner = new PreambleScanner(nonce);
        let offset = 0;
        for (let turn = 0; offset < all.length; turn++) {
          const end = offset + (sizes[turn % sizes.length] ?? 1);
          const found = scanner.push(all.subarray(offset, end));
          offset = Math.min(end, all.length);
          if (found === undefined) continue;
          assert.equal(found.version, version);
          assert.deepEqual(bytes(found.rest, all.subarray(offset)), rest);
          assert.deepEqual(found.nonce, nonce);
          return;
        }
        assert.fail('not found');
      },
    ),
  );
});

test('passes over an answer to another host, a broken preamble and a magic that restarts inside itself', () => {
  const broken = encodePreamble(nonce);
  broken[12] = 1;
  const scanner = new PreambleScanner(nonce);
  const found = scanner.push(
    bytes(encodePreamble(otherNonce), broken, [0xb4, 0x42], encodePreamble(nonce), [7]),
  );
  assert.deepEqual(found?.rest, Uint8Array.of(7));
});

test('without a nonce takes the first preamble and tells its nonce', () => {
  const found = new PreambleScanner().push(bytes([1, 2], encodePreamble(otherNonce)));
  assert.deepEqual(found?.nonce, otherNonce);
});

test('gives up after the allowed number of bytes, and not one before', () => {
  const allowed = new PreambleScanner(nonce, 64);
  assert.equal(allowed.push(new Uint8Array(64)), undefined);
  assert.notEqual(allowed.push(encodePreamble(nonce)), undefined);

  const refused = new PreambleScanner(nonce, 64);
  assert.equal(refused.push(new Uint8Array(64)), undefined);
  assert.throws(() => refused.push(bytes([0], encodePreamble(nonce))), FrameError);

  const silent = new PreambleScanner(nonce, 64);
  assert.throws(() => silent.push(new Uint8Array(64 + PREAMBLE_BYTES)), FrameError);
});
