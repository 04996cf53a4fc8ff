import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  FrameError,
  FrameParser,
  type FrameType,
  HEADER_BYTES,
  MAX_OPEN_PAYLOAD_BYTES,
  MAX_PAYLOAD_BYTES,
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
  const frames: Plain[] = [];
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b).concat(bytes.length)) {
    const to = Math.min(cut, bytes.length);
    for (const frame of parser.push(bytes.subarray(from, to))) {
      frames.push({ ...frame, payload: Buffer.from(frame.payload) });
    }
    from = to;
  }
  return { frames, parser };
}

interface Plain {
  readonly type: number;
  readonly stream: number;
  readonly channel: number;
  readonly payload: Buffer;
}

/** Joins neighbouring DATA of the same stream and channel: where it is cut means nothing. */
function joined(frames: readonly Plain[]): Plain[] {
  const result: Plain[] = [];
  for (const frame of frames) {
    const last = result.at(-1);
    const goesOn = last?.stream === frame.stream && last.channel === frame.channel;
    if (frame.type === FRAME_TYPES.data && last?.type === FRAME_TYPES.data && goesOn) {
      result[result.length - 1] = { ...last, payload: Buffer.concat([last.payload, frame.payload]) };
    } else result.push({ ...frame, payload: Buffer.from(frame.payload) });
  }
  return result;
}

test('frames come out as they went in, however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(anyFrame, { maxLength: 12 }), fc.array(fc.nat(4000)), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map((frame) => encodeFrame(...frame)));
      const { frames, parser } = parseInPieces(bytes, cuts);
      assert(parser.isAtBoundary);
      const expected = sent.map(([type, stream, on, payload]) => {
        return { type, stream, channel: on, payload: Buffer.from(payload) };
      });
      assert.deepEqual(joined(frames), joined(expected));
      for (const frame of frames) assert(frame.type !== FRAME_TYPES.data || frame.payload.length > 0);
    }),
  );
});

test('a frame cut off is held back, unless it is DATA', () => {
  fc.assert(
    fc.property(anyFrame, anyFrame, fc.array(fc.nat(700)), fc.nat(700), (first, second, cuts, kept) => {
      const whole = encodeFrame(...first);
      const cutFrame = encodeFrame(...second);
      const part = cutFrame.subarray(0, 1 + (kept % (cutFrame.length - 1)));
      const { frames, parser } = parseInPieces(Buffer.concat([whole, part]), cuts);
      assert(!parser.isAtBoundary);
      const passed = frames.reduce((sum, frame) => sum + frame.payload.length, 0) - first[3].length;
      if (second[0] === FRAME_TYPES.data && part.length >= HEADER_BYTES) {
        assert.equal(parser.pendingBytes, 0);
        assert.equal(passed, part.length - HEADER_BYTES);
      } else {
        assert.equal(parser.pendingBytes, part.length);
        assert.equal(passed, 0);
      }
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
    const frames: Plain[] = [];
    for (let from = 0; from < bytes.length; from += 13) {
      for (const frame of parser.push(bytes.subarray(from, from + 13))) {
        frames.push({ ...frame, payload: Buffer.from(frame.payload) });
      }
    }
    const all = Buffer.concat(frames.map((frame) => frame.payload));
    assert(payload.equals(all));
    assert.equal(frames.length === 1, type === FRAME_TYPES.open);
  }
});

test('the payload of DATA is not copied', () => {
  const chunk = Buffer.concat([
    encodeFrame(FRAME_TYPES.data, 1, 1, Buffer.alloc(100)),
    encodeFrame(FRAME_TYPES.data, 1, 1, Buffer.alloc(100)).subarray(0, 50),
  ]);
  const frames = [...new FrameParser().push(chunk)];
  assert.deepEqual(
    frames.map((frame) => frame.payload.length),
    [100, 38],
  );
  for (const frame of frames) assert.equal(frame.payload.buffer, chunk.buffer);
});

test('a frame put together from pieces is not overwritten by later ones', () => {
  const parser = new FrameParser();
  const bytes = Buffer.concat([
    encodeFrame(FRAME_TYPES.close, 1, 0, Buffer.from('first')),
    encodeFrame(FRAME_TYPES.close, 1, 0, Buffer.from('later')),
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
