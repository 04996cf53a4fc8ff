import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { type CloseResult, encodeClose } from '../../core/channel/close.ts';
import {
  encodeFrame,
  FRAME_TYPES,
  type FrameType,
  type Frame,
  FrameParser,
  STDERR,
  STDOUT,
} from '../../core/channel/frame.ts';
import { runBytePipe } from './run-byte-pipe.ts';

const TICKET_BYTES = 65;
let dir = '';
let server: Server;
let path = '';

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'pipe-'));
  path = join(dir, 's');
  server = createServer();
  server.listen(path);
  await once(server, 'listening');
});
afterEach(() => {
  server.close();
  rmSync(dir, { recursive: true });
});

/** The daemon's end of a pipe, and this end's surroundings. */
function scene() {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  const signals = new EventEmitter();
  const frames: Frame[] = [];
  const came = new EventEmitter();
  const socket = once(server, 'connection').then(([one]) => {
    const connection = one as Socket;
    const parser = new FrameParser();
    let skip = TICKET_BYTES;
    connection.on('data', (chunk: Buffer) => {
      const rest = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - rest.length;
      for (const frame of parser.push(rest)) {
        frames.push({ ...frame, payload: Buffer.from(frame.payload) });
        came.emit('frame');
      }
    });
    connection.on('error', () => undefined);
    return connection;
  });
  const end = runBytePipe({
    ticket: { ticket: 'ab'.repeat(32), streamSocketPath: path },
    ...{ stdin, stdout, signals },
  });
  end.catch(() => undefined);
  const send = async (type: FrameType, channel: number, payload: Uint8Array | string = ''): Promise<void> => {
    (await socket).write(encodeFrame(type, 1, channel, Buffer.from(payload)));
  };
  const close = (result: CloseResult) => send(FRAME_TYPES.close, 0, encodeClose(result));
  const seen = async (type: number): Promise<Frame> => {
    for (;;) {
      const frame = frames.find((one) => one.type === type);
      if (frame !== undefined) return frame;
      await once(came, 'frame');
    }
  };
  return { stdin, stdout, signals, end, send, close, seen, frames };
}

test('bytes pass both ways as they are, and what the server complains of is kept from stdout', async () => {
  const { stdin, stdout, end, send, close, seen } = scene();
  const all = Buffer.from([...Array(256).keys()]);
  stdin.write(all);
  assert.deepEqual(Buffer.from((await seen(FRAME_TYPES.data)).payload), all);
  await send(FRAME_TYPES.data, STDOUT, all);
  await send(FRAME_TYPES.data, STDERR, 'first\nlast \u001b[31mline\n');
  await close({ kind: 'done', status: 255 });
  assert.deepEqual(await end, {
    result: { kind: 'done', status: 255 },
    hasSpoken: true,
    complaint: 'last \u{fffd}[31mline',
  });
  assert.deepEqual(stdout.read(), all);
});

test('a server that says nothing has not spoken, and how much it complains does not matter', async () => {
  const { end, send, close } = scene();
  for (let i = 0; i < 8; i += 1) await send(FRAME_TYPES.data, STDERR, 'x'.repeat(60_000));
  await close({ kind: 'done', status: 127 });
  const { hasSpoken, complaint } = await end;
  assert.deepEqual([hasSpoken, complaint], [false, 'x'.repeat(300)]);
});

test('the end of stdin is passed on, and what still comes is written', async () => {
  const { stdin, stdout, end, send, close, seen } = scene();
  stdin.end('bye');
  await seen(FRAME_TYPES.eof);
  await send(FRAME_TYPES.data, STDOUT, 'rest');
  await close({ kind: 'done', status: 0 });
  await end;
  assert.equal(String(stdout.read()), 'rest');
});

test('SIGHUP, which ssh sends when it ends, is the end of stdin; Ctrl-C is ssh’s to understand', async () => {
  const { stdin, signals, end, close, seen, frames } = scene();
  stdin.write('x');
  await seen(FRAME_TYPES.data);
  signals.emit('SIGINT');
  signals.emit('SIGHUP');
  await seen(FRAME_TYPES.eof);
  assert.ok(!frames.some(({ type }) => type === FRAME_TYPES.signal));
  await close({ kind: 'done', status: 255 });
  await end;
  assert.equal(signals.listenerCount('SIGHUP') + signals.listenerCount('SIGINT'), 0);
});

test('a server that does not end by itself is given up, and one that does not answer is left', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { stdin, end, seen } = scene();
  stdin.end();
  await seen(FRAME_TYPES.eof);
  context.mock.timers.tick(2000);
  await seen(FRAME_TYPES.reset);
  context.mock.timers.tick(5000);
  assert.equal((await end).result, null);
});

test('an ssh that does not read any more ends it', async () => {
  const { stdout, end, send, close, seen } = scene();
  stdout.destroy();
  await send(FRAME_TYPES.data, STDOUT, 'x');
  await seen(FRAME_TYPES.reset);
  await close({ kind: 'signaled', signal: 1 });
  assert.equal((await end).result?.kind, 'signaled');
});
