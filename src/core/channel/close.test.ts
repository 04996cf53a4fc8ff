import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type CloseResult,
  closeWord,
  decodeClose,
  describeFailure,
  ERRNO,
  encodeClose,
  exitStatusOf,
} from './close.ts';
import { FrameError, MAX_CLOSE_TEXT_BYTES } from './frame.ts';

function failed(errno: number, text: string) {
  return { kind: 'failed', errno, text } as const;
}

test('results survive the wire', () => {
  const anyResult: fc.Arbitrary<CloseResult> = fc.oneof(
    fc.record({ kind: fc.constant('done' as const), status: fc.integer({ min: 0, max: 255 }) }),
    fc.record({ kind: fc.constant('signaled' as const), signal: fc.integer({ min: 1, max: 64 }) }),
    fc.record({
      kind: fc.constant('failed' as const),
      errno: fc.nat(),
      text: fc.string({ unit: 'grapheme', maxLength: 100 }),
    }),
  );
  fc.assert(
    fc.property(anyResult, (result) => assert.deepEqual(decodeClose(encodeClose(result)), { ...result })),
  );
});

test('a long text is cut between characters', () => {
  fc.assert(
    fc.property(fc.nat(3), (shift) => {
      const text = 'x'.repeat(shift) + '🙂'.repeat(400);
      const bytes = encodeClose(failed(5, text));
      const decoded = decodeClose(bytes);
      assert(bytes.length <= 5 + MAX_CLOSE_TEXT_BYTES && bytes.length > 5 + MAX_CLOSE_TEXT_BYTES - 4);
      assert(decoded.kind === 'failed' && text.startsWith(decoded.text));
    }),
  );
});

test('any payload decodes or is a FrameError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 5, maxLength: 60 }), (payload) => {
      try {
        const result = decodeClose(payload);
        const status = exitStatusOf(result);
        assert(status >= 0 && status <= 255);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
        if (result.kind === 'failed') assert.doesNotMatch(describeFailure(result), /[\x00-\x1f\x7f-\x9f]/);
      } catch (error) {
        assert(error instanceof FrameError);
      }
    }),
  );
});

test('impossible results are refused', () => {
  for (const [kind, value] of [
    [0, 256],
    [1, 0],
    [1, 65],
    [3, 0],
  ] as const) {
    const payload = Uint8Array.of(kind, value & 255, value >> 8, 0, 0);
    assert.throws(() => decodeClose(payload), FrameError);
  }
});

test('exit statuses are those of a shell and of docker run', () => {
  const cases: readonly (readonly [CloseResult, number])[] = [
    [{ kind: 'done', status: 7 }, 7],
    [{ kind: 'signaled', signal: 15 }, 143],
    [failed(ERRNO.ENOENT, 'spawn: nope'), 127],
    [failed(ERRNO.EACCES, 'spawn: /etc/passwd'), 126],
    [failed(ERRNO.ENOEXEC, 'spawn: /x'), 126],
    [failed(ERRNO.ENOENT, 'chdir: /nope'), 125],
    [failed(ERRNO.ECONNRESET, 'channel: gone'), 125],
  ];
  for (const [result, status] of cases) assert.equal(exitStatusOf(result), status);
});

test('failures become sentences', () => {
  const cases: readonly (readonly [number, string, string])[] = [
    [
      ERRNO.ENOENT,
      'spawn: No such file or directory',
      'cannot run the command in the guest: No such file or directory',
    ],
    [ERRNO.ENOENT, 'chdir', 'cannot change to the working directory in the guest: no such file or directory'],
    [ERRNO.ECONNRESET, 'channel: it was closed', 'the connection to the guest was lost: it was closed'],
    [ERRNO.ECONNRESET, 'channel:', 'the connection to the guest was lost'],
    [999, '', "the guest's agent failed: errno 999"],
    [999, 'odd', "the guest's agent failed: odd"],
    [ERRNO.EMFILE, 'busy', 'the guest is busy: too many commands at once'],
    [0, 'constructor: x', "the guest's agent failed: constructor: x"],
    [0, 'spawn: \u001b[31mred', 'cannot run the command in the guest: \u{fffd}[31mred'],
  ];
  for (const [errno, text, sentence] of cases) assert.equal(describeFailure(failed(errno, text)), sentence);
  assert.equal(closeWord(failed(1, 'bad-request: x')), 'bad-request');
  assert.equal(closeWord(failed(1, 'No word')), '');
});
