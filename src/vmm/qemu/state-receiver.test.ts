import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { StateReceiver } from './state-receiver.ts';

const dir = await mkdtemp(join(tmpdir(), 'receiver-'));
after(() => rm(dir, { recursive: true }));
const path = join(dir, 's.sock');
const never = new AbortController().signal;

test('takes exactly the limit, and not a byte more', async () => {
  for (const [bytes, fits] of [
    [1000, true],
    [1001, false],
  ] as const) {
    await using receiver = await StateReceiver.listen(path, 1000);
    let taken = 0;
    const receiving = receiver.receive(async (chunk) => void (taken += chunk.length), never);
    createConnection(path)
      .on('error', () => {})
      .end(Buffer.alloc(bytes, 'x'));
    if (fits) await receiving;
    else await assert.rejects(receiving, { code: 'limit_exceeded' });
    assert.equal(taken, fits ? bytes : 0);
  }
});

test('a connection that nobody takes does not keep it from closing, and its socket is gone', async () => {
  const receiver = await StateReceiver.listen(path, 1000);
  const socket = createConnection(path).on('error', () => {});
  await once(socket, 'connect');
  const hungUp = once(socket, 'close');
  // Accepted by now, in the same process.
  await new Promise((resolve) => setTimeout(resolve, 20));
  socket.resume();
  await receiver[Symbol.asyncDispose]();
  await hungUp;
  assert.equal((await readdir(dir)).includes('s.sock'), false);
});
