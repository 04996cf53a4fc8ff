import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { encodeFrame, FRAME_TYPES } from '../core/channel/frame.ts';
import { encodePreamble, NONCE_BYTES, PreambleScanner } from '../core/channel/preamble.ts';
import { awaitHello } from './hello.ts';

const HELLO = encodeFrame(FRAME_TYPES.hello, 0, 0, Buffer.from('{"agent":"1"}'));

/** A guest that answers the host's preamble with `reply(nonce)`, byte by byte. */
function guest(reply: (nonce: Uint8Array) => readonly Uint8Array[] | null): Duplex {
  const scanner = new PreambleScanner();
  return new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const found = scanner.push(chunk);
      if (found !== undefined) {
        const answer = reply(found.nonce);
        if (answer === null) this.push(null);
        else for (const part of answer) for (const byte of part) this.push(Buffer.of(byte));
      }
      done();
    },
  });
}

const never = new AbortController().signal;

test('settles at the hello of the answering session, behind leftovers, and hangs up', async () => {
  const stale = encodePreamble(new Uint8Array(NONCE_BYTES).fill(9));
  const channel = guest((nonce) => [Buffer.from('junk'), stale, HELLO, encodePreamble(nonce), HELLO]);
  await awaitHello(channel, never);
  assert.equal(channel.destroyed, true);
});

test('a hang-up, another first frame, a broken frame and another version are told apart from silence', async () => {
  const data = encodeFrame(FRAME_TYPES.data, 1, 1, Uint8Array.of(1));
  const cases = [
    [guest(() => null), 'channel_broken'],
    [guest((nonce) => [encodePreamble(nonce), data]), 'channel_broken'],
    [guest((nonce) => [encodePreamble(nonce), new Uint8Array(12).fill(255)]), 'channel_broken'],
    [guest((nonce) => [encodePreamble(nonce, 2), HELLO]), 'version_mismatch'],
  ] as const;
  for (const [channel, code] of cases) {
    await assert.rejects(awaitHello(channel, never), { code });
    assert.equal(channel.destroyed, true);
  }
});

test('silence lasts until the signal', async () => {
  const abort = new AbortController();
  const channel = guest((nonce) => [encodePreamble(nonce)]);
  const waiting = awaitHello(channel, abort.signal);
  setImmediate(() => abort.abort());
  await assert.rejects(waiting, { code: 'cancelled' });
  assert.equal(channel.destroyed, true);
  await assert.rejects(
    awaitHello(
      guest(() => []),
      AbortSignal.abort(),
    ),
    { code: 'cancelled' },
  );
});
