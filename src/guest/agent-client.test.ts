import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { FAKE_HELLO, FakeGuest, type FakeGuestOptions } from '../../test/helpers/fake-guest.ts';
import { ERRNO } from '../core/channel/close.ts';
import { FRAME_TYPES, STDOUT } from '../core/channel/frame.ts';
import { encodePreamble } from '../core/channel/preamble.ts';
import { AgentClient } from './agent-client.ts';
import { buildGuestConfig } from './guest-config.ts';
import { wallClockNs } from './wall-clock.ts';

const never = new AbortController().signal;

async function connect(options: FakeGuestOptions = {}) {
  const guest = new FakeGuest(options);
  const client = await AgentClient.connect(guest.hostSide, { signal: never, timeoutMs: 5000 });
  return { guest, client };
}

/** A guest that answers every operation with this JSON, or with nothing, and success. */
function answering(json?: unknown): FakeGuestOptions {
  return {
    onFrame(frame, guest) {
      if (frame.type !== FRAME_TYPES.open) return;
      if (json !== undefined) guest.data(frame.stream, STDOUT, JSON.stringify(json));
      guest.close(frame.stream, { kind: 'done', status: 0 });
    },
  };
}

test('connects past the leftovers of an earlier session', async () => {
  const leftovers = Buffer.concat([randomBytes(100_000), encodePreamble(randomBytes(16)), randomBytes(50)]);
  const { client } = await connect({ leftovers });
  assert.deepEqual({ ...client.hello }, FAKE_HELLO);
  client.close();
  await client.closed;
  assert.equal(client.closeReason?.code, 'channel_broken');
});

test('gives up on endless leftovers', async () => {
  const leftovers = Buffer.alloc(5 * 1024 * 1024, 'x');
  await assert.rejects(connect({ leftovers }), { code: 'channel_broken', message: /no preamble within/ });
});

test('another version is a clear error, and the connection is let go', async () => {
  const guest = new FakeGuest({ version: 2 });
  await assert.rejects(AgentClient.connect(guest.hostSide, { signal: never, timeoutMs: 5000 }), {
    code: 'version_mismatch',
    message: /protocol version 2, banger speaks 1/,
    hint: /banger vm restart/,
  });
  assert(guest.hostSide.destroyed);
});

test('a hello that makes no sense is refused', async () => {
  for (const hello of ['{', '[]', '""', { ...FAKE_HELLO, mounted: 'yes' }, { agent: 'x'.repeat(20_000) }]) {
    await assert.rejects(connect({ hello }), { code: 'guest_failed', message: /makes no sense/ });
  }
});

test('a hello with new fields passes, control characters do not', async () => {
  const { client } = await connect({ hello: { ...FAKE_HELLO, agent: 'a\u001b[2J', extra: 1 } });
  assert.equal(client.hello.agent, 'a\u{fffd}[2J');
  client.close();
});

test('a silent guest is a timeout, an aborted connect is cancelled, a gone guest is broken', async () => {
  const silent = new FakeGuest();
  silent.side.removeAllListeners('data');
  await assert.rejects(AgentClient.connect(silent.hostSide, { signal: never, timeoutMs: 20 }), {
    code: 'timeout',
  });
  assert(silent.hostSide.destroyed);

  const waiting = new FakeGuest();
  waiting.side.removeAllListeners('data');
  const abort = new AbortController();
  const connecting = AgentClient.connect(waiting.hostSide, { signal: abort.signal, timeoutMs: 60_000 });
  abort.abort();
  await assert.rejects(connecting, { code: 'cancelled' });

  const gone = new FakeGuest();
  gone.side.destroy();
  await assert.rejects(AgentClient.connect(gone.hostSide, { signal: never, timeoutMs: 60_000 }), {
    code: 'channel_broken',
  });
});

test('every operation is one OPEN frame and its answer', async () => {
  const { guest, client } = await connect(answering());
  await client.setClock(1_700_000_000_000_000_000n);
  await client.reseed(randomBytes(64));
  await client.sync();
  await client.powerOff(1000);
  await client.mount({
    device: '/dev/vdb',
    type: 'squashfs',
    target: '/root/repo',
    readOnly: false,
    label: 'repo',
  });
  assert.deepEqual(
    guest.frames.map((frame) => [frame.type, frame.stream, frame.payload[0]]),
    [5, 6, 7, 8, 9].map((operation, index) => [FRAME_TYPES.open, index + 1, operation]),
  );
  assert.equal(client.openStreams, 0);
  client.close();
});

test('a connection is a stream, and told apart from a command', async () => {
  const { guest, client } = await connect();
  client.exec({ argv: ['true'] });
  const stream = client.connectTo({ port: 8080 });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    guest.frames.map((frame) => [frame.type, frame.payload[0]]),
    [
      [FRAME_TYPES.open, 1],
      [FRAME_TYPES.open, 10],
    ],
  );
  assert.deepEqual([client.openStreams, client.openConnections], [2, 1]);
  guest.close(stream.id, { kind: 'failed', errno: ERRNO.ECONNREFUSED, text: 'connect' });
  await stream.result;
  assert.deepEqual([client.openStreams, client.openConnections], [1, 0]);
  client.close();
});

const START = { hostname: 'dev', network: null, authorizedKeys: [], handOverInit: false };

/** The 64-bit numbers at any offset. */
function numbersIn(payload: Buffer): bigint[] {
  return Array.from({ length: payload.length - 7 }, (_, offset) => payload.readBigUInt64LE(offset));
}

test('a guest that was configured says hello anew, and gets the time of that moment', async () => {
  const bootId = '6f1c2d3e-0000-4000-8000-00000000beef';
  const { guest, client } = await connect({
    onFrame(frame, fake) {
      const hello = JSON.stringify({ ...FAKE_HELLO, bootId, configured: true });
      if (frame.payload[0] === 2) fake.data(frame.stream, STDOUT, hello);
      fake.close(frame.stream, { kind: 'done', status: 0 });
    },
  });
  assert.equal(client.hello.bootId, FAKE_HELLO.bootId);
  // Put together long ago.
  const before = wallClockNs();
  const hello = await client.configure({ ...buildGuestConfig(START), clockNs: 1n });
  const after = wallClockNs();
  assert.deepEqual([hello.bootId, hello.configured], [bootId, true]);
  assert.equal(client.hello, hello);
  const [sent, ...more] = guest.frames.map((frame) => Buffer.from(frame.payload));
  assert.deepEqual([sent?.[0], more.length], [2, 0]);
  const clocks = numbersIn(sent ?? Buffer.alloc(0)).filter((ns) => ns >= before && ns <= after);
  assert.equal(clocks.length, 1);

  const silent = await connect(answering());
  await assert.rejects(silent.client.configure(buildGuestConfig(START)), { code: 'guest_failed' });
  assert.equal(silent.client.hello.bootId, FAKE_HELLO.bootId);
});

const HEALTH = {
  uptimeMs: 12,
  bootId: FAKE_HELLO.bootId,
  memoryTotalKib: 1,
  memoryAvailableKib: 1,
  load1: 0.5,
  processes: 3,
  diskTotalBytes: 2 ** 40,
  diskFreeBytes: 5,
  init: 'agent',
  configured: true,
  idle: true,
  leases: 2,
};

test('a guest has settled when it is idle once everything is written', async () => {
  const operations: (number | undefined)[] = [];
  let busyFor = 2;
  const { client } = await connect({
    onFrame(frame, guest) {
      if (frame.type !== FRAME_TYPES.open) return;
      operations.push(frame.payload[0]);
      if (frame.payload[0] === 3) {
        const { idle: _, ...older } = HEALTH;
        const answers = [HEALTH, { ...HEALTH, idle: false }, older];
        guest.data(frame.stream, STDOUT, JSON.stringify(answers[Math.max(busyFor--, 0)]));
      }
      guest.close(frame.stream, { kind: 'done', status: 0 });
    },
  });
  assert.equal((await client.settle()).idle, true);
  assert.deepEqual(operations, [7, 3, 7, 3, 7, 3]);
  busyFor = 1;
  await assert.rejects(client.settle(undefined, 0), { code: 'timeout', message: /work under way/ });
  client.close();
});

test('health and ports are checked', async () => {
  const healthy = await connect(answering(HEALTH));
  assert.deepEqual({ ...(await healthy.client.health()) }, HEALTH);
  const { leases: _, ...older } = HEALTH;
  assert.equal((await (await connect(answering(older))).client.health()).leases, 0);
  await assert.rejects(healthy.client.ports(), { code: 'guest_failed', message: /ports/ });

  const port = { protocol: 'tcp', address: '0.0.0.0', port: 22, pid: 1, process: 'sshd' };
  const listening = await connect(answering([port]));
  assert.deepEqual(await listening.client.ports(), [port]);
  const absurd = await connect(answering([{ ...port, port: 70_000 }]));
  await assert.rejects(absurd.client.ports(), { code: 'guest_failed' });
  const many = await connect(answering(Array.from({ length: 4097 }, () => port)));
  await assert.rejects(many.client.ports(), { code: 'guest_failed' });
});

test('an answer longer than allowed is refused and its stream reset', async () => {
  const { guest, client } = await connect({
    onFrame(frame, fake) {
      if (frame.type !== FRAME_TYPES.open) return;
      fake.data(frame.stream, STDOUT, Buffer.alloc(65536, '['));
      fake.data(frame.stream, STDOUT, '[');
    },
  });
  await assert.rejects(client.health(), { code: 'limit_exceeded' });
  assert.equal(guest.frames.at(-1)?.type, FRAME_TYPES.reset);
  client.close();
});

test('a failure says what the agent said', async () => {
  const { client } = await connect({
    onFrame: (frame, guest) =>
      guest.close(frame.stream, { kind: 'failed', errno: ERRNO.ENOSPC, text: 'mount' }),
  });
  await assert.rejects(client.sync(), {
    code: 'guest_failed',
    message:
      "cannot write the guest's files to disk: the guest cannot mount the disk: no space left in the guest",
  });
  client.close();
});

test('deadline and abort reset the stream; the session goes on', async () => {
  const { guest, client } = await connect();
  await assert.rejects(client.sync(undefined, 20), { code: 'timeout', message: /within 0.02 s/ });
  const abort = new AbortController();
  const syncing = client.sync(abort.signal);
  abort.abort();
  await assert.rejects(syncing, { code: 'cancelled', message: 'cancelled' });
  await assert.rejects(client.sync(abort.signal), { code: 'cancelled' });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    guest.frames.map((frame) => [frame.type, frame.stream]),
    [
      [FRAME_TYPES.open, 1],
      [FRAME_TYPES.reset, 1],
      [FRAME_TYPES.open, 2],
      [FRAME_TYPES.reset, 2],
    ],
  );
  assert.equal(client.closeReason, undefined);
  client.close();
});

test('a lost channel fails what is under way and what comes after', async () => {
  const { guest, client } = await connect();
  const syncing = client.sync();
  await new Promise((resolve) => setImmediate(resolve));
  guest.side.destroy();
  guest.hostSide.destroy();
  await assert.rejects(syncing, { code: 'channel_broken', message: /connection to the guest was lost/ });
  await client.closed;
  await assert.rejects(client.sync(), { code: 'channel_broken' });
});
