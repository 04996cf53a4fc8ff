import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  FrameParser,
  INITIAL_WINDOW_BYTES,
  STDOUT,
} from '../core/channel/frame.ts';
import { streamLog } from './log-stream.ts';

let dir: string;
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'banger-log-'));
});
after(() => rmSync(dir, { recursive: true }));

interface Client {
  readonly socket: Socket;
  text: string;
  closed: boolean;
  readonly ended: Promise<void>;
}

/** A real socket pair: the served end runs `streamLog`, the other is read as a client would. */
async function serve(
  path: string,
  options: { follow?: boolean; tailLines?: number; grant?: boolean } = {},
): Promise<Client> {
  const socketPath = join(dir, `${Math.random().toString(36).slice(2)}.sock`);
  const server = createServer((socket) => {
    server.close();
    void streamLog(socket, { path, follow: options.follow ?? false, tailLines: options.tailLines });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const socket = connect(socketPath);
  const ended = Promise.withResolvers<void>();
  const client: Client = { socket, text: '', closed: false, ended: ended.promise };
  const parser = new FrameParser();
  socket.on('data', (chunk) => {
    for (const frame of parser.push(chunk)) {
      if (frame.type === FRAME_TYPES.close) client.closed = true;
      if (frame.type !== FRAME_TYPES.data) continue;
      client.text += Buffer.from(frame.payload).toString();
      if (options.grant === false) continue;
      socket.write(encodeFrame(FRAME_TYPES.window, 1, STDOUT, encodeU32(frame.payload.length)));
    }
  });
  socket.on('close', () => ended.resolve());
  return client;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('the whole file, then CLOSE; also one larger than the credit', async () => {
  const path = join(dir, 'whole');
  const text = 'line\n'.repeat(400_000);
  writeFileSync(path, text);
  const client = await serve(path);
  await client.ended;
  assert.equal(client.text.length, text.length);
  assert.ok(client.closed);
});

test('a missing file is an empty log', async () => {
  const client = await serve(join(dir, 'missing'));
  await client.ended;
  assert.deepEqual([client.text, client.closed], ['', true]);
});

test('the last lines, whether or not the file ends with a line feed', async () => {
  const path = join(dir, 'tail');
  writeFileSync(path, 'one\ntwo\nthree\n');
  const cases: [number, string][] = [
    [0, ''],
    [1, 'three\n'],
    [2, 'two\nthree\n'],
    [3, 'one\ntwo\nthree\n'],
    [9, 'one\ntwo\nthree\n'],
  ];
  for (const [tailLines, expected] of cases) {
    const client = await serve(path, { tailLines });
    await client.ended;
    assert.equal(client.text, expected, `${tailLines} lines`);
  }
  writeFileSync(path, 'one\ntwo\nthree');
  const client = await serve(path, { tailLines: 2 });
  await client.ended;
  assert.equal(client.text, 'two\nthree');
});

test('nothing is sent beyond the credit', async () => {
  const path = join(dir, 'credit');
  writeFileSync(path, 'x'.repeat(2 * INITIAL_WINDOW_BYTES));
  const client = await serve(path, { grant: false });
  await until(() => client.text.length === INITIAL_WINDOW_BYTES);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(client.text.length, INITIAL_WINDOW_BYTES);
  client.socket.write(encodeFrame(FRAME_TYPES.window, 1, STDOUT, encodeU32(1000)));
  await until(() => client.text.length === INITIAL_WINDOW_BYTES + 1000);
  client.socket.destroy();
  await client.ended;
});

test('following: what is appended comes, a truncated file goes on, and RESET ends it', async () => {
  const path = join(dir, 'follow');
  writeFileSync(path, 'first\n');
  const client = await serve(path, { follow: true });
  await until(() => client.text === 'first\n');
  appendFileSync(path, 'second\n');
  await until(() => client.text === 'first\nsecond\n');
  writeFileSync(path, 'new\n');
  await until(() => client.text.endsWith('new\n'));
  client.socket.write(encodeFrame(FRAME_TYPES.reset, 1));
  await client.ended;
  assert.ok(client.closed);
});
