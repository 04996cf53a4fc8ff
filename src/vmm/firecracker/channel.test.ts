import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connectWithin, tryChannel } from './channel.ts';

const dir = await mkdtemp(join(tmpdir(), 'fc-channel-'));
after(() => rm(dir, { recursive: true }));
const never = new AbortController().signal;
let number = 0;

async function serving(answer: (socket: Socket, line: string) => void): Promise<string> {
  const path = join(dir, `${number++}.sock`);
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (chunk) => answer(socket, chunk.toString()));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  after(() => server.close());
  return path;
}

test('says which port, takes the answer’s line and not a byte more', async () => {
  const lines: string[] = [];
  const path = await serving((socket, line) => {
    lines.push(line);
    socket.write('OK 1073741824\nfirst words');
    socket.on('data', (chunk) => socket.write(`echo ${chunk.toString()}`));
  });
  const socket = await tryChannel(path, 1024, never);
  assert(socket !== undefined);
  let got = '';
  const all = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      got += chunk.toString();
      if (got.endsWith('hello')) resolve();
    });
  });
  socket.write('hello');
  await all;
  assert.deepEqual([lines, got], [['CONNECT 1024\n'], 'first wordsecho hello']);
  socket.destroy();
});

test('nobody listens: on the host, in the guest, or not yet', async () => {
  assert.equal(await tryChannel(join(dir, 'nobody'), 1, never), undefined);
  assert.equal(await tryChannel(await serving((socket) => socket.destroy()), 1, never), undefined);
  assert.equal(await tryChannel(await serving((socket) => socket.end('OK 1')), 1, never), undefined);
  let tries = 0;
  const path = await serving((socket) => {
    tries += 1;
    if (tries < 3) socket.destroy();
    else socket.write('OK 7\n');
  });
  const socket = await connectWithin(path, 1, 1, never, async () => {});
  assert.equal(tries, 3);
  socket?.destroy();
});

test('an answer that is none is an error; one that does not end is given up with the signal', async () => {
  for (const answer of ['ERR\n', 'OK \n', 'OK 1 2\n', `OK ${'1'.repeat(100)}`, '\n']) {
    await assert.rejects(
      tryChannel(await serving((socket) => socket.write(answer)), 1, never),
      { code: 'vmm_failed' },
      answer,
    );
  }
  const asked = Promise.withResolvers<void>();
  const silent = await serving(() => asked.resolve());
  const abort = new AbortController();
  const trying = connectWithin(silent, 1, 1, abort.signal, async () => {});
  await asked.promise;
  abort.abort();
  assert.equal(await trying, undefined);
});

test('what is known of the process meanwhile ends the tries', async () => {
  const gone = connectWithin(join(dir, 'nobody'), 1, 1, never, async () => {
    throw new Error('it ended');
  });
  await assert.rejects(gone, /it ended/);
});
