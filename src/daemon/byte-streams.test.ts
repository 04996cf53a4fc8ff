import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { encodeFrame, FRAME_TYPES, STDIN, STDOUT } from '../core/channel/frame.ts';
import { openStream } from '../rpc/stream-client.ts';
import { admitStream } from '../rpc/stream-server.ts';
import type { ClientStream } from '../rpc/stream-types.ts';
import { TicketBooth } from '../rpc/tickets.ts';
import { ByteStreams } from './byte-streams.ts';

const MIB = 1024 ** 2;
const NEVER = new AbortController().signal;
let dir: string;
let server: Server;
let sockets: Socket[];
let tickets: TicketBooth;
let streams: ByteStreams;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'byte-streams-'));
  tickets = new TicketBooth();
  streams = new ByteStreams(tickets, join(dir, 's.sock'));
  sockets = [];
  const log = { debug: () => undefined, warn: () => undefined, error: () => undefined };
  server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    admitStream(socket, { tickets, openingTimeoutMs: 5000, log, onSettled: () => undefined });
  });
  await new Promise<void>((resolve) => server.listen(join(dir, 's.sock'), resolve));
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dir, { recursive: true });
});

interface Client {
  readonly ticket: string;
  readonly stream: ClientStream;
  /** Bytes that came. */
  readonly came: Uint8Array[];
}

function connect(isReading = true): Client {
  const open = streams.open();
  const came: Uint8Array[] = [];
  const stream = openStream({
    ...open,
    onStdout: (chunk, taken) => {
      came.push(chunk);
      if (isReading) taken();
    },
    onStderr: (_chunk, taken) => taken(),
  });
  return { ticket: open.ticket, stream, came };
}

test('bytes go both ways, more than a window of them, and the stream ends well', async () => {
  const { ticket, stream, came } = connect();
  const sent = Buffer.alloc(3 * MIB, 'there and back ');
  stream.write(sent);
  stream.endInput();
  const echoed = await streams.use(ticket, NEVER, async (bytes) => {
    let count = 0;
    for await (const chunk of bytes.chunks()) {
      await bytes.write(chunk);
      count += chunk.length;
    }
    return count;
  });
  assert.equal(echoed, sent.length);
  assert.deepEqual(await stream.result, { kind: 'done', status: 0 });
  assert.ok(Buffer.concat(came).equals(sent));
});

test('a client that does not read is waited for, and its window is all it is sent', async () => {
  const { ticket, stream, came } = connect(false);
  const writing = streams.use(ticket, NEVER, (bytes) => bytes.write(Buffer.alloc(2 * MIB)));
  writing.catch(() => undefined);
  for (let held = -1; held !== came.length; ) {
    held = came.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(Buffer.concat(came).length, MIB / 2);
  stream.destroy();
  await assert.rejects(writing, { code: 'cancelled' });
});

test('a client that goes before its end is no end', async () => {
  const { ticket, stream } = connect();
  stream.write(Buffer.from('half'));
  const reading = streams.use(ticket, NEVER, async (bytes) => {
    for await (const _ of bytes.chunks()) stream.destroy();
  });
  await assert.rejects(reading, { code: 'cancelled', message: 'the other end of the stream has gone' });
});

test('work that fails, or is given up, ends the stream with a failure', async () => {
  const failing = connect();
  await assert.rejects(
    streams.use(failing.ticket, NEVER, async () => {
      throw new Error('no');
    }),
    /no/,
  );
  assert.equal((await failing.stream.result).kind, 'failed');
  const abort = new AbortController();
  const given = connect();
  const waiting = streams.use(given.ticket, abort.signal, async (bytes) => {
    abort.abort();
    for await (const _ of bytes.chunks()) assert.fail('nothing was sent');
  });
  await assert.rejects(waiting, { code: 'cancelled' });
  assert.equal((await given.stream.result).kind, 'failed');
});

test('a ticket is used once, by one that knows it', async () => {
  const { ticket, stream } = connect();
  await streams.use(ticket, NEVER, async () => undefined);
  await stream.result;
  for (const one of [ticket, 'x'])
    await assert.rejects(
      streams.use(one, NEVER, async () => undefined),
      { code: 'bad_request' },
    );
});

test('a request whose stream never comes fails; one that is given up before it comes ends it', async () => {
  const { ticket } = streams.open();
  const waiting = streams.use(ticket, NEVER, async () => undefined);
  tickets.close();
  await assert.rejects(waiting, { code: 'timeout' });
  const late = streams.open();
  await assert.rejects(
    streams.use(late.ticket, AbortSignal.abort(), async () => undefined),
    { code: 'cancelled' },
  );
  const stream = openStream({ ...late, onStdout: () => undefined, onStderr: () => undefined });
  assert.equal((await stream.result).kind, 'failed');
});

test('a client that breaks the protocol is dropped', async () => {
  for (const frames of [
    [encodeFrame(FRAME_TYPES.data, 1, STDOUT, Buffer.from('x'))],
    [encodeFrame(FRAME_TYPES.eof, 1, STDIN), encodeFrame(FRAME_TYPES.data, 1, STDIN, Buffer.from('x'))],
    Array.from({ length: 9 }, () => encodeFrame(FRAME_TYPES.data, 1, STDIN, Buffer.alloc(64 * 1024))),
    [Buffer.alloc(64, 0xff)],
  ]) {
    const { ticket } = streams.open();
    const using = streams.use(ticket, NEVER, async (bytes) => {
      // Nothing is taken until all of it is there.
      await new Promise((resolve) => setTimeout(resolve, 50));
      await bytes.write(Buffer.alloc(MIB));
    });
    const { connect: connectSocket } = await import('node:net');
    const socket = connectSocket(join(dir, 's.sock'));
    socket.on('error', () => undefined);
    socket.write(Buffer.concat([Buffer.from(`${ticket}\n`), ...frames]));
    socket.resume();
    await assert.rejects(using, { code: 'cancelled', message: /broke the protocol/ });
    socket.destroy();
  }
});
