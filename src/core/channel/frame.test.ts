import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeFrame,
  encodeSize,
  encodeU32,
  FRAME_TYPES,
  FrameError,
  FrameParser,
  type FrameType,
  HEADER_BYTES,
  MAX_OPEN_PAYLOAD_BYTES,
  MAX_PAYLOAD_BYTES,
  setFrameStream,
} from './frame.ts';

const streamNumber = fc.integer({ min: 1, max: 2 ** 32 - 1 });

function ofType(type: FrameType, channel: fc.Arbitrary<number>, payload: fc.Arbitrary<Uint8Array>) {
  return fc.tuple(fc.constant(type), streamNumber, channel, payload);
}

const channel = fc.integer({ min: 0, max: 2 });
const zero = fc.constant(0);
const empty = fc.constant(new Uint8Array(0));
const four = fc.uint8Array({ minLength: 4, maxLength: 4 });
const anyFrame: fc.Arbitrary<[FrameType, number, number, Uint8Array]> = fc.oneof(
  fc.tuple(fc.constant(FRAME_TYPES.hello), zero, zero, fc.uint8Array({ maxLength: 300 })),
  ofType(FRAME_TYPES.open, zero, fc.uint8Array({ minLength: 1, maxLength: 300 })),
  ofType(FRAME_TYPES.data, channel, fc.uint8Array({ minLength: 1, maxLength: 300 })),
  ofType(FRAME_TYPES.eof, channel, empty),
  ofType(FRAME_TYPES.window, channel, four),
  ofType(FRAME_TYPES.signal, zero, four),
  ofType(FRAME_TYPES.resize, zero, four),
  ofType(FRAME_TYPES.reset, zero, empty),
  ofType(FRAME_TYPES.close, zero, fc.uint8Array({ minLength: 5, maxLength: 300 })),
);

function parseInPieces(bytes: Uint8Array, cuts: readonly number[]) {
  const parser = new FrameParser();
  const frames = [];
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b).concat(bytes.length)) {
    const to = Math.min(cut, bytes.length);
    frames.push(...parser.push(bytes.subarray(from, to)));
    from = to;
  }
  return { frames, pendingBytes: parser.pendingBytes };
}

test('frames come out as they went in, however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(anyFrame, { maxLength: 12 }), fc.array(fc.nat(4000)), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map((frame) => encodeFrame(...frame)));
      const { frames, pendingBytes } = parseInPieces(bytes, cuts);
      assert.equal(pendingBytes, 0);
      assert.deepEqual(
        frames.map((frame) => [frame.type, frame.stream, frame.channel, Buffer.from(frame.payload)]),
        sent.map(([type, stream, on, payload]) => [type, stream, on, Buffer.from(payload)]),
      );
      assert.deepEqual(Buffer.concat(frames.map((frame) => frame.bytes)), bytes);
    }),
  );
});

test('a frame cut off is held back, and only that', () => {
  fc.assert(
    fc.property(anyFrame, anyFrame, fc.array(fc.nat(700)), fc.nat(700), (first, second, cuts, kept) => {
      const whole = encodeFrame(...first);
      const part = encodeFrame(...second).subarray(0, -1 - (kept % HEADER_BYTES));
      const { frames, pendingBytes } = parseInPieces(Buffer.concat([whole, part]), cuts);
      assert.equal(frames.length, 1);
      assert.equal(pendingBytes, part.length);
    }),
  );
});

test('the largest frames pass in tiny pieces', () => {
  for (const [type, size] of [
    [FRAME_TYPES.data, MAX_PAYLOAD_BYTES],
    [FRAME_TYPES.open, MAX_OPEN_PAYLOAD_BYTES],
  ] as const) {
    const payload = Buffer.alloc(size, 'abcdefg');
    const bytes = encodeFrame(type, 7, 0, payload);
    const parser = new FrameParser();
    const frames = [];
    for (let from = 0; from < bytes.length; from += 13)
      frames.push(...parser.push(bytes.subarray(from, from + 13)));
    assert.equal(frames.length, 1);
    assert(payload.equals(frames[0]?.payload ?? new Uint8Array()));
  }
});

test('a frame put together from pieces is not overwritten by later ones', () => {
  const parser = new FrameParser();
  const bytes = Buffer.concat([
    encodeFrame(FRAME_TYPES.data, 1, 1, Buffer.from('first')),
    encodeFrame(FRAME_TYPES.data, 1, 1, Buffer.from('later')),
  ]);
  const frames = [];
  for (const byte of bytes) frames.push(...parser.push(Uint8Array.of(byte)));
  assert.deepEqual(
    frames.map((frame) => Buffer.from(frame.payload).toString()),
    ['first', 'later'],
  );
});

test('any bytes give frames or a FrameError, and never hold more than one frame', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 20 }), (chunks) => {
      const parser = new FrameParser();
      try {
        for (const chunk of chunks) for (const frame of parser.push(chunk)) assert(frame.stream >= 0);
      } catch (error) {
        assert(error instanceof FrameError);
      }
      assert(parser.pendingBytes <= HEADER_BYTES + MAX_OPEN_PAYLOAD_BYTES);
    }),
  );
});

const hostile: readonly [string, Uint8Array][] = [
  ['type 0', patched(4, 0)],
  ['type 10', patched(4, 10)],
  ['reserved bits', patched(7, 1)],
  ['channel 3', patched(5, 3)],
  ['stream 0', patched(8, 0)],
  ['empty DATA', encodeFrame(FRAME_TYPES.data, 1, 1)],
  ['DATA over 64 KiB', encodeFrame(FRAME_TYPES.data, 1, 1, new Uint8Array(MAX_PAYLOAD_BYTES + 1))],
  ['OPEN over 1 MiB', encodeFrame(FRAME_TYPES.open, 1, 0, new Uint8Array(MAX_OPEN_PAYLOAD_BYTES + 1))],
  ['EOF with a payload', encodeFrame(FRAME_TYPES.eof, 1, 1, Uint8Array.of(1))],
  ['WINDOW of 3 bytes', encodeFrame(FRAME_TYPES.window, 1, 1, new Uint8Array(3))],
  ['SIGNAL of 5 bytes', encodeFrame(FRAME_TYPES.signal, 1, 0, new Uint8Array(5))],
  ['SIGNAL on a channel', encodeFrame(FRAME_TYPES.signal, 1, 1, encodeU32(9))],
  ['RESIZE without a size', encodeFrame(FRAME_TYPES.resize, 1)],
  ['RESET with a payload', encodeFrame(FRAME_TYPES.reset, 1, 0, Uint8Array.of(1))],
  ['CLOSE of 4 bytes', encodeFrame(FRAME_TYPES.close, 1, 0, new Uint8Array(4))],
  ['CLOSE with a long text', encodeFrame(FRAME_TYPES.close, 1, 0, new Uint8Array(5 + 1025))],
  ['HELLO of a stream', encodeFrame(FRAME_TYPES.hello, 1)],
];

function patched(offset: number, value: number): Uint8Array {
  const bytes = encodeFrame(FRAME_TYPES.data, 1, 1, Uint8Array.of(1));
  bytes[offset] = value;
  return bytes;
}

for (const [what, bytes] of hostile) {
  test(`refused at its header, before its payload: ${what}`, () => {
    assert.throws(() => [...new FrameParser().push(bytes.subarray(0, HEADER_BYTES))], FrameError);
    const parser = new FrameParser();
    assert.throws(() => {
      for (const byte of bytes) Array.from(parser.push(Uint8Array.of(byte)));
    }, FrameError);
  });
}

test('the stream number is changed in place', () => {
  fc.assert(
    fc.property(streamNumber, streamNumber, (before, after) => {
      const bytes = encodeFrame(FRAME_TYPES.resize, before, 0, encodeSize(24, 80));
      setFrameStream(bytes, after);
      assert.deepEqual(bytes, encodeFrame(FRAME_TYPES.resize, after, 0, encodeSize(24, 80)));
    }),
  );
});
