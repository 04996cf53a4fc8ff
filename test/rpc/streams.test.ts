import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { decodeClose } from '../../src/core/channel/close.ts';
import {
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  FrameParser,
  INITIAL_WINDOW_BYTES,
} from '../../src/core/channel/frame.ts';
import type { BangerError } from '../../src/core/errors.ts';
import { openStream } from '../../src/rpc/stream-client.ts';
import type { ClientStream, OpenStreamOptions } from '../../src/rpc/stream-types.ts';
import { TicketBooth } from '../../src/rpc/tickets.ts';
import { FakeProgram } from './fake-program.ts';
import { Fixture, gate } from './fixture.ts';

interface Joined {
  readonly program: FakeProgram;
  readonly stream: ClientStream;
  readonly stdout: Buffer[];
  readonly stderr: Buffer[];
}

/** A stream whose two ends are here. Output is taken at once unless the test says otherwise. */
async function join(fixture: Fixture, own: Partial<OpenStreamOptions> = {}): Promise<Joined> {
  const arrived = gate<FakeProgram>();
  const ticket = fixture.tickets.issue((socket) => arrived.resolve(new FakeProgram(socket)));
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const keepIn = (list: Buffer[]) => (chunk: Uint8Array, taken: () => void) => {
    list.push(Buffer.from(chunk));
    taken();
  };
  const stream = openStream({
    streamSocketPath: fixture.streamSocketPath,
    ticket,
    onStdout: keepIn(stdout),
    onStderr: keepIn(stderr),
    ...own,
  });
  const program = await arrived.promise;
  fixture.defer(() => program.socket.destroy());
  return { program, stream, stdout, stderr };
}

function sha256(...chunks: Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
}

const NOTHING = { onStdout: () => undefined, onStderr: () => undefined };

test('output arrives on its own channel, whole, before the result', async () => {
  await using fixture = await Fixture.start();
  const { program, stream, stdout, stderr } = await join(fixture);
  const out = randomBytes(3_000_000);
  const err = randomBytes(2_000_000);
  await Promise.all([program.write(1, out), program.write(2, err)]);
  program.exit(7);
  assert.deepEqual(await stream.result, { kind: 'done', status: 7 });
  assert.equal(sha256(...stdout), sha256(out));
  assert.equal(sha256(...stderr), sha256(err));
  assert.equal(program.failure, undefined);
});

test('input arrives whole, then its end, within the credit', async () => {
  await using fixture = await Fixture.start();
  const source = randomBytes(5_000_000);
  const writable = gate();
  let waits = 0;
  const joined = await join(fixture, {
    onWritable: () => {
      waits++;
      writable.resolve();
      send();
    },
  });
  const { program, stream } = joined;
  const received: Buffer[] = [];
  program.onInput((chunk) => {
    received.push(Buffer.from(chunk));
    program.grant(chunk.length);
  });
  let offset = 0;
  const send = () => {
    while (offset < source.length) {
      const chunk = source.subarray(offset, offset + 100_000);
      offset += chunk.length;
      if (!stream.write(chunk)) return;
    }
    stream.endInput();
  };
  send();
  await program.event('eof');
  assert.ok(waits > 0);
  assert.equal(sha256(...received), sha256(source));
  program.exit(0);
  await stream.result;
  assert.equal(program.failure, undefined);
});

test('without credit no input is sent, however much is written', async () => {
  await using fixture = await Fixture.start();
  const { program, stream } = await join(fixture);
  assert.equal(stream.write(Buffer.alloc(3 * INITIAL_WINDOW_BYTES)), false);
  stream.endInput();
  // Signals need no credit and come after what credit allowed.
  stream.sendSignal(2);
  await program.event('signal');
  assert.equal(program.receivedBytes, INITIAL_WINDOW_BYTES);
  assert.deepEqual(
    program.events.map(({ kind }) => kind),
    ['signal'],
  );
  stream.destroy();
});

test('output that is not taken stops the program at its window, and nothing else', async () => {
  await using fixture = await Fixture.start();
  const kept: (() => void)[] = [];
  const { program, stream, stderr } = await join(fixture, { onStdout: (_chunk, taken) => kept.push(taken) });
  const writing = program.write(1, Buffer.alloc(INITIAL_WINDOW_BYTES + 1));
  await program.write(2, Buffer.alloc(3 * INITIAL_WINDOW_BYTES));
  assert.ok(Buffer.concat(stderr).length >= 2 * INITIAL_WINDOW_BYTES);
  assert.equal(program.available(1), 0);
  await setImmediate();
  assert.equal(program.available(1), 0);
  for (const taken of kept.splice(0)) taken();
  await writing;
  program.exit(0);
  await stream.result;
  assert.equal(program.failure, undefined);
});

test('signals, sizes and reset reach the program in order', async () => {
  await using fixture = await Fixture.start();
  const { program, stream } = await join(fixture);
  stream.resize(24, 80);
  stream.sendSignal(15);
  stream.reset();
  await program.event('reset');
  assert.deepEqual(program.events, [
    { kind: 'resize', rows: 24, columns: 80 },
    { kind: 'signal', number: 15 },
    { kind: 'reset' },
  ]);
  program.close({ kind: 'signaled', signal: 1 });
  assert.deepEqual(await stream.result, { kind: 'signaled', signal: 1 });
});

const data = (channel: number, bytes: number, stream = 1) =>
  encodeFrame(FRAME_TYPES.data, stream, channel, new Uint8Array(bytes));
const BREACHES: readonly [string, Uint8Array[]][] = [
  ['more output than credit', Array.from({ length: 9 }, () => data(1, 65536))],
  ['output on stdin', [data(0, 1)]],
  ['another stream', [data(1, 1, 2)]],
  ['output after its end', [encodeFrame(FRAME_TYPES.eof, 1, 1), data(1, 1)]],
  ['a frame only clients send', [encodeFrame(FRAME_TYPES.reset, 1)]],
  ['credit beyond all bounds', [encodeFrame(FRAME_TYPES.window, 1, 0, encodeU32(0xffffffff))]],
  ['credit for output', [encodeFrame(FRAME_TYPES.window, 1, 1, encodeU32(1))]],
  ['no frame at all', [Buffer.from('HTTP/1.1 200 OK\r\n\r\n')]],
  ['an exit status of 256', [encodeFrame(FRAME_TYPES.close, 1, 0, Uint8Array.of(0, 0, 1, 0, 0))]],
];
for (const [what, frames] of BREACHES) {
  test(`from the daemon, ${what} breaks the stream`, async () => {
    await using fixture = await Fixture.start();
    const { program, stream } = await join(fixture, NOTHING);
    for (const bytes of frames) program.raw(bytes);
    await assert.rejects(stream.result, { code: 'channel_broken' });
    await program.event('hangup');
  });
}

test('a connection that ends without a result is a broken channel; nobody there is unavailable', async () => {
  await using fixture = await Fixture.start();
  const { program, stream } = await join(fixture);
  program.socket.destroy();
  await assert.rejects(stream.result, { code: 'channel_broken' });
  const nobody = openStream({
    streamSocketPath: `${fixture.dir}/none`,
    ticket: '0'.repeat(64),
    ...NOTHING,
  });
  await assert.rejects(nobody.result, { code: 'unavailable' });
});

test('aborting hangs up', async () => {
  await using fixture = await Fixture.start();
  const abort = new AbortController();
  const { program, stream } = await join(fixture, { signal: abort.signal });
  abort.abort();
  await assert.rejects(stream.result, { code: 'cancelled' });
  await program.event('hangup');
});

/** What the stream socket answers to these first bytes. */
async function refusal(fixture: Fixture, opening: string): Promise<string> {
  const peer = await fixture.raw(fixture.streamSocketPath);
  peer.socket.end(opening);
  await peer.closed;
  const [frame] = [...new FrameParser().push(Buffer.concat(peer.bytes))];
  assert.equal(frame?.type, FRAME_TYPES.close);
  const result = decodeClose(frame.payload);
  assert.equal(result.kind, 'failed');
  return result.kind === 'failed' ? result.text : '';
}

test('tickets that are unknown, malformed, used, withdrawn or too old are refused', async () => {
  await using fixture = await Fixture.start();
  const handled: string[] = [];
  const { tickets } = fixture;
  const issue = (name: string, options = {}) =>
    tickets.issue((socket) => {
      handled.push(name);
      new FakeProgram(socket).exit(0);
    }, options);
  const good = issue('good');
  const unused: string[] = [];
  const old = issue('old', { ttlMs: 1, onUnused: () => unused.push('old') });
  const abort = new AbortController();
  const withdrawn = issue('withdrawn', { signal: abort.signal, onUnused: () => unused.push('withdrawn') });
  abort.abort();
  while (tickets.size > 1) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(unused.sort(), ['old', 'withdrawn']);
  const wrong = [
    `${'0'.repeat(64)}\n`,
    `${good} `,
    good.toUpperCase().replace(/[A-F]/, 'g').concat('\n'),
    'x'.repeat(65),
  ];
  for (const opening of [...wrong, `${old}\n`, `${withdrawn}\n`]) {
    assert.match(await refusal(fixture, opening), /^ticket: /, opening);
  }
  const stream = openStream({ streamSocketPath: fixture.streamSocketPath, ticket: good, ...NOTHING });
  assert.deepEqual(await stream.result, { kind: 'done', status: 0 });
  assert.match(await refusal(fixture, `${good}\n`), /^ticket: /);
  assert.deepEqual(handled, ['good']);
});

test('a ticket that comes byte by byte, with a frame right behind it, loses nothing', async () => {
  await using fixture = await Fixture.start();
  const arrived = gate<FakeProgram>();
  const ticket = fixture.tickets.issue((socket) => arrived.resolve(new FakeProgram(socket)));
  const peer = await fixture.raw(fixture.streamSocketPath);
  for (const byte of Buffer.from(ticket)) {
    peer.socket.write(Buffer.of(byte));
    await setImmediate();
  }
  peer.socket.write(Buffer.concat([Buffer.from('\n'), encodeFrame(FRAME_TYPES.signal, 1, 0, encodeU32(9))]));
  const program = await arrived.promise;
  fixture.defer(() => program.socket.destroy());
  assert.equal((await program.event('signal')).number, 9);
});

test('a handler may begin to listen long after the ticket was presented', async () => {
  await using fixture = await Fixture.start();
  const arrived = gate<FakeProgram>();
  const ticket = fixture.tickets.issue((socket) => {
    setTimeout(() => arrived.resolve(new FakeProgram(socket)), 10);
  });
  const stream = openStream({ streamSocketPath: fixture.streamSocketPath, ticket, ...NOTHING });
  stream.write(Buffer.from('hello'));
  stream.endInput();
  const program = await arrived.promise;
  await program.event('eof');
  assert.equal(program.receivedBytes, 5);
  program.exit(0);
  await stream.result;
});

test('a handler that throws loses its stream and nothing else', async () => {
  await using fixture = await Fixture.start();
  const ticket = fixture.tickets.issue(() => {
    throw new Error('a bug');
  });
  const stream = openStream({ streamSocketPath: fixture.streamSocketPath, ticket, ...NOTHING });
  await assert.rejects(stream.result, { code: 'channel_broken' });
  assert.ok(fixture.log.some(({ level, message }) => level === 'error' && /a bug/.test(message)));
  const { program, stream: next } = await join(fixture);
  program.exit(0);
  assert.deepEqual(await next.result, { kind: 'done', status: 0 });
});

test('a booth has a limit, and forgets its tickets when it closes', () => {
  const booth = new TicketBooth<string>({ maxOpen: 2 });
  let unused = 0;
  const issue = () => booth.issue(() => undefined, { onUnused: () => unused++ });
  const ticket = issue();
  assert.match(ticket, /^[0-9a-f]{64}$/);
  assert.notEqual(issue(), ticket);
  assert.throws(issue, (error: BangerError) => error.code === 'limit_exceeded');
  assert.ok(booth.redeem(ticket));
  assert.equal(booth.redeem(ticket), undefined);
  booth.close();
  assert.equal(unused, 1);
  assert.equal(booth.size, 0);
});
