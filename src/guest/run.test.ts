import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { catGuest, FakeGuest, type FakeGuestOptions } from '../../test/helpers/fake-guest.ts';
import { ERRNO } from '../core/channel/close.ts';
import { FRAME_TYPES, STDERR, STDOUT } from '../core/channel/frame.ts';
import { AgentClient } from './agent-client.ts';
import { run } from './run.ts';

async function agentOf(options: FakeGuestOptions): Promise<AgentClient> {
  return await connect(new FakeGuest(options));
}

async function connect(guest: FakeGuest): Promise<AgentClient> {
  return await AgentClient.connect(guest.hostSide, {
    signal: new AbortController().signal,
    timeoutMs: 5000,
  });
}

const REQUEST = { argv: ['cat'] };

test('output and status are collected', async () => {
  const agent = await agentOf({
    onFrame(frame, guest) {
      guest.data(frame.stream, STDOUT, 'out');
      guest.data(frame.stream, STDERR, 'err');
      guest.data(frame.stream, STDOUT, 'put');
      guest.close(frame.stream, { kind: 'done', status: 3 });
    },
  });
  const { stdout, stderr, status } = await run(agent, REQUEST, { maxOutputBytes: 100 });
  assert.deepEqual([stdout.toString(), stderr.toString(), status], ['output', 'err', 3]);
  await assert.rejects(run(agent, REQUEST, { maxOutputBytes: 5 }), { code: 'limit_exceeded' });
  agent.close();
});

test('input of any size goes through, as bytes or as it comes', async () => {
  const agent = await connect(catGuest());
  const bytes = randomBytes(3_000_000);
  const whole = await run(agent, REQUEST, { maxOutputBytes: 2 ** 22, input: bytes });
  assert(whole.stdout.equals(bytes));
  async function* pieces() {
    for (let from = 0; from < bytes.length; from += 700_001) {
      await new Promise((resolve) => setImmediate(resolve));
      yield bytes.subarray(from, from + 700_001);
    }
  }
  const pieced = await run(agent, REQUEST, { maxOutputBytes: 2 ** 22, input: pieces() });
  assert(pieced.stdout.equals(bytes));
  const empty = await run(agent, REQUEST, { maxOutputBytes: 0, input: new Uint8Array(0) });
  assert.deepEqual([empty.stdout.length, empty.status], [0, 0]);
  agent.close();
});

test('a source that fails fails the run and resets the stream', async () => {
  const guest = new FakeGuest();
  const agent = await connect(guest);
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('x');
    throw new Error('disk on fire');
  }
  await assert.rejects(run(agent, REQUEST, { maxOutputBytes: 10, input: broken() }), {
    code: 'guest_failed',
    message: /disk on fire/,
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(guest.frames.at(-1)?.type, FRAME_TYPES.reset);
  agent.close();
});

test('a command that ends without reading its input is no problem', async () => {
  const agent = await agentOf({
    onFrame(frame, guest) {
      if (frame.type === FRAME_TYPES.data) guest.close(frame.stream, { kind: 'done', status: 0 });
    },
  });
  const { status } = await run(agent, REQUEST, { maxOutputBytes: 10, input: randomBytes(2_000_000) });
  assert.equal(status, 0);
  agent.close();
});

test('a command that cannot be started is an error with the reason', async () => {
  const agent = await agentOf({
    onFrame: (frame, guest) =>
      guest.close(frame.stream, {
        kind: 'failed',
        errno: ERRNO.ENOENT,
        text: 'spawn: No such file or directory',
      }),
  });
  await assert.rejects(run(agent, { argv: ['nope'] }, { maxOutputBytes: 10 }), {
    code: 'guest_failed',
    message: 'cannot run nope in the guest: No such file or directory',
  });
  agent.close();
});

test("output is passed on at the taker's pace, and a taker that fails ends the command", async () => {
  const agent = await connect(catGuest());
  const bytes = randomBytes(3_000_000);
  const taken: Uint8Array[] = [];
  let busy = 0;
  const whole = await run(agent, REQUEST, {
    maxOutputBytes: 2 ** 22,
    input: bytes,
    onStdout: async (chunk) => {
      busy += 1;
      assert.equal(busy, 1, 'one at a time');
      await new Promise((resolve) => setImmediate(resolve));
      taken.push(chunk);
      busy -= 1;
    },
  });
  assert.equal(whole.stdout.length, 0);
  assert(Buffer.concat(taken).equals(bytes));
  const failing = run(agent, REQUEST, {
    maxOutputBytes: 2 ** 22,
    input: bytes,
    onStdout: () => Promise.reject(new Error('the disk is full')),
  });
  await assert.rejects(failing, { code: 'io_error', message: /the disk is full/ });
  const tooMuch = run(agent, REQUEST, {
    maxOutputBytes: 2 ** 20,
    input: bytes,
    onStdout: async () => undefined,
  });
  await assert.rejects(tooMuch, { code: 'limit_exceeded' });
  agent.close();
});
