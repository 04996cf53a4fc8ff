import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeMessage, FramingError, MessageParser } from './framing.ts';

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...ends, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : ends[index - 1], end));
}

test('messages come out as they went in, however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 5 }),
      fc.array(fc.nat(), { maxLength: 20 }),
      (messages, places) => {
        const parser = new MessageParser(1024 * 1024);
        const bytes = Buffer.concat(messages.map(encodeMessage));
        const parsed = cut(bytes, places).flatMap((chunk) => [...parser.push(chunk)]);
        assert.equal(JSON.stringify(parsed), JSON.stringify(messages));
      },
    ),
  );
});

test('arbitrary bytes are an error of framing or wait for more, and nothing else', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 10 }), (chunks) => {
      const parser = new MessageParser(1000);
      try {
        for (const chunk of chunks) for (const message of parser.push(Buffer.from(chunk))) void message;
      } catch (error) {
        assert.ok(error instanceof FramingError);
      }
    }),
  );
});

test('a length counts bytes, not characters', () => {
  const message = { text: 'größer: \u{1f600}' };
  assert.deepEqual([...new MessageParser(100).push(encodeMessage(message))], [message]);
});

test('the limit is the body alone: a message of exactly that size passes, one byte more does not', () => {
  const message = { text: 'x'.repeat(100) };
  const bodyBytes = JSON.stringify(message).length;
  assert.equal([...new MessageParser(bodyBytes).push(encodeMessage(message))].length, 1);
  assert.throws(() => [...new MessageParser(bodyBytes - 1).push(encodeMessage(message))], {
    reason: 'too_large',
  });
});

test('a Content-Type beside the length is accepted, as the base protocol allows it', () => {
  const bytes = Buffer.from(
    'Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}',
  );
  assert.deepEqual([...new MessageParser(10).push(bytes)], [{}]);
});
