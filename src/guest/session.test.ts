import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { FAKE_HELLO } from '../../test/helpers/fake-guest.ts';
import { type CloseResult, encodeClose } from '../core/channel/close.ts';
import {
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  FrameParser,
  INITIAL_WINDOW_BYTES,
  MAX_PAYLOAD_BYTES,
  MAX_STREAMS,
} from '../core/channel/frame.ts';
import { Session } from './session.ts';
import type { GuestStream } from './stream.ts';

const OPERATION = Uint8Array.of(3);
const HELLO = encodeFrame(FRAME_TYPES.hello, 0, 0, Buffer.from(JSON.stringify(FAKE_HELLO)));

function open() {
  const [hostSide, guestSide] = duplexPair();
  const session = new Session(hostSide, HELLO);
  const sent: Frame[] = [];
  const parser = new FrameParser();
  guestSide.on('error', () => {});
  guestSide.on('data', (chunk: Buffer) => {
    sent.push(...parser.push(Buffer.from(chunk)));
  });
  return { session, guestSide, sent };
}

function done(stream: number, status = 0): Uint8Array {
  return encodeFrame(FRAME_TYPES.close, stream, 0, encodeClose({ kind: 'done', status }));
}

function data(stream: number, channel: number, bytes: string | Uint8Array): Uint8Array {
  return encodeFrame(FRAME_TYPES.data, stream, channel, Buffer.from(bytes));
}

/** Records everything a stream delivers. */
function record(stream: GuestStream) {
  const log: (readonly [string, ...unknown[]])[] = [];
  stream.attach({
    data: (frame) => log.push(['data', frame.channel, Buffer.from(frame.payload).toString()]),
    eof: (channel) => log.push(['eof', channel]),
    credit: (bytes) => log.push(['credit', bytes]),
    closed: (result) => log.push(['closed', result]),
  });
  return log;
}

async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('streams are told apart however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(2), { maxLength: 20 }), fc.array(fc.nat(600)), async (order, cuts) => {
      const { session, guestSide } = open();
      const streams = [0, 1, 2].map(() => session.open(OPERATION));
      const logs = streams.map(record);
      const pieces = order.map((index, at) => data(index + 1, 1, `${index}:${at};`));
      const bytes = Buffer.concat([...pieces, done(1), done(2, 7), done(3)]);
      let from = 0;
      for (const cut of [...cuts].sort((a, b) => a - b).concat(bytes.length)) {
        guestSide.write(bytes.subarray(from, cut));
        from = Math.max(from, Math.min(cut, bytes.length));
      }
      await Promise.all(streams.map((stream) => stream.result));
      for (const [index, log] of logs.entries()) {
        const texts = log.filter(([what]) => what === 'data').map((entry) => entry[2]);
        const expected = order.flatMap((of, at) => (of === index ? [`${of}:${at};`] : []));
        assert.equal(texts.join(''), expected.join(''));
        assert.deepEqual(log.at(-1), ['closed', { kind: 'done', status: index === 1 ? 7 : 0 }]);
      }
      assert.equal(session.openStreams, 0);
      session.close();
    }),
    { numRuns: 50 },
  );
});

test('what comes before anyone is attached is kept, in order', async () => {
  const { session, guestSide } = open();
  const stream = session.open(OPERATION);
  guestSide.write(data(1, 1, 'out'));
  guestSide.write(data(1, 2, 'err'));
  guestSide.write(encodeFrame(FRAME_TYPES.window, 1, 0, encodeU32(5)));
  guestSide.write(encodeFrame(FRAME_TYPES.window, 1, 0, encodeU32(6)));
  guestSide.write(encodeFrame(FRAME_TYPES.eof, 1, 1));
  guestSide.write(done(1));
  await stream.result;
  assert.deepEqual(record(stream), [
    ['credit', 11],
    ['data', 1, 'out'],
    ['data', 2, 'err'],
    ['eof', 1],
    ['closed', { kind: 'done', status: 0 }],
  ]);
  session.close();
});

test('frames for streams that are gone or never were are ignored', async () => {
  const { session, guestSide } = open();
  const stream = session.open(OPERATION);
  guestSide.write(Buffer.concat([done(1), data(1, 1, 'late'), data(99, 1, 'never'), done(1)]));
  await stream.result;
  await turns();
  assert.equal(session.reason, undefined);
  session.close();
});

const violations: readonly [string, readonly Uint8Array[]][] = [
  ['a second hello', [HELLO]],
  ['OPEN from the guest', [encodeFrame(FRAME_TYPES.open, 1, 0, OPERATION)]],
  ['SIGNAL from the guest', [encodeFrame(FRAME_TYPES.signal, 1, 0, encodeU32(1))]],
  ['RESET from the guest', [encodeFrame(FRAME_TYPES.reset, 1)]],
  ['output on stdin', [data(1, 0, 'x')]],
  ['end of stdin', [encodeFrame(FRAME_TYPES.eof, 1, 0)]],
  ['credit for stdout', [encodeFrame(FRAME_TYPES.window, 1, 1, encodeU32(1))]],
  ['output after its end', [encodeFrame(FRAME_TYPES.eof, 1, 1), data(1, 1, 'x')]],
  ['two ends', [encodeFrame(FRAME_TYPES.eof, 1, 2), encodeFrame(FRAME_TYPES.eof, 1, 2)]],
  [
    'credit past 2^31',
    [encodeFrame(FRAME_TYPES.window, 1, 0, encodeU32(2 ** 31 - INITIAL_WINDOW_BYTES + 1))],
  ],
  [
    'output past the credit',
    [...Array.from({ length: 8 }, () => data(1, 1, new Uint8Array(MAX_PAYLOAD_BYTES))), data(1, 1, 'x')],
  ],
  ['an unknown result', [encodeFrame(FRAME_TYPES.close, 1, 0, Uint8Array.of(7, 0, 0, 0, 0))]],
  ['no frame at all', [Buffer.alloc(12, 0xff)]],
];

for (const [what, frames] of violations) {
  test(`the session ends when the guest sends ${what}`, async () => {
    const { session, guestSide } = open();
    const stream = session.open(OPERATION);
    const other = session.open(OPERATION);
    const log = record(stream);
    for (const frame of frames) guestSide.write(frame);
    const reason = await session.ended;
    assert.equal(reason.code, 'channel_broken');
    assert.match(reason.message, /the guest broke the protocol/);
    for (const lost of await Promise.all([stream.result, other.result])) {
      assert(lost.kind === 'failed' && lost.text.startsWith('channel: the guest broke the protocol'));
    }
    assert.equal(log.at(-1)?.[0], 'closed');
    assert.throws(() => session.open(OPERATION), { code: 'channel_broken' });
  });
}

test('the first frame must be the hello', async () => {
  const [hostSide] = duplexPair();
  const session = new Session(hostSide, done(1));
  await assert.rejects(session.hello, { code: 'channel_broken', message: /first frame is no hello/ });
});

test('at most 1536 streams, and their numbers are never used twice', async () => {
  const { session, guestSide } = open();
  const streams = Array.from({ length: MAX_STREAMS }, () => session.open(OPERATION));
  assert.throws(() => session.open(OPERATION), { code: 'limit_exceeded' });
  guestSide.write(done(3));
  await streams[2]?.result;
  assert.equal(session.open(OPERATION).id, MAX_STREAMS + 1);
  session.close();
});

test('a reset stream drops what comes, still counts credit, and ends with CLOSE', async () => {
  const { session, guestSide, sent } = open();
  const stream = session.open(OPERATION);
  const log = record(stream);
  stream.reset();
  stream.reset();
  stream.signal(9);
  stream.sendData(Buffer.from('ignored'));
  guestSide.write(data(1, 1, 'late'));
  guestSide.write(
    encodeFrame(FRAME_TYPES.close, 1, 0, encodeClose({ kind: 'failed', errno: 0, text: 'reset' })),
  );
  const result: CloseResult = { kind: 'failed', errno: 0, text: 'reset' };
  assert.deepEqual(await stream.result, result);
  assert.deepEqual(log, [['closed', result]]);
  await turns();
  assert.deepEqual(
    sent.map((frame) => frame.type),
    [FRAME_TYPES.open, FRAME_TYPES.reset],
  );
  session.close();
});

test('what the host sends: input, its end, signals, sizes, credit in halves of the window', async () => {
  const { session, sent } = open();
  const stream = session.open(OPERATION);
  record(stream);
  stream.sendData(Buffer.alloc(MAX_PAYLOAD_BYTES + 1, 'x'));
  stream.sendEof();
  stream.signal(15);
  stream.resize(24, 80);
  assert.equal(stream.sendCredit, INITIAL_WINDOW_BYTES - MAX_PAYLOAD_BYTES - 1);
  assert.throws(() => stream.sendData(Buffer.from('x')), /DATA after EOF/);
  await turns();
  const { data: d, eof, signal, resize } = FRAME_TYPES;
  assert.deepEqual(
    sent.slice(1).map((frame) => [frame.type, frame.channel, frame.payload.length]),
    [
      [d, 0, MAX_PAYLOAD_BYTES],
      [d, 0, 1],
      [eof, 0, 0],
      [signal, 0, 4],
      [resize, 0, 4],
    ],
  );
  session.close();
});
