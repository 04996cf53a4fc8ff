import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { catGuest, FakeGuest, type FakeGuestOptions } from '../../test/helpers/fake-guest.ts';
import { ModelClient } from '../../test/helpers/model-client.ts';
import {
  decodeU32,
  encodeFrame,
  encodeU32,
  FRAME_TYPES,
  type Frame,
  INITIAL_WINDOW_BYTES,
  MAX_PAYLOAD_BYTES,
  STDERR,
  STDIN,
  STDOUT,
} from '../core/channel/frame.ts';
import { AgentClient } from './agent-client.ts';
import { relay } from './relay.ts';

const never = new AbortController().signal;
const CAT = { argv: ['cat'], stdin: true };

async function agentOf(guest: FakeGuest): Promise<AgentClient> {
  return await AgentClient.connect(guest.hostSide, { signal: never, timeoutMs: 5000 });
}

function joinClient(agent: AgentClient, keep = true) {
  const [daemonSide, clientSide] = duplexPair();
  const stream = agent.exec(CAT);
  const relayed = relay(stream, daemonSide);
  return { stream, relayed, daemonSide, client: new ModelClient(clientSide, keep) };
}

async function connected(options: FakeGuestOptions = {}) {
  const guest = new FakeGuest(options);
  const agent = await agentOf(guest);
  return { guest, agent, ...joinClient(agent) };
}

async function turns(count = 5): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

function types(frames: readonly Frame[]): number[] {
  return frames.map((frame) => frame.type);
}

test('bytes pass through cat unchanged, whatever the pieces', async () => {
  const agent = await agentOf(catGuest());
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 300_000 }), { maxLength: 6 }), async (sizes) => {
      const { client, relayed } = joinClient(agent);
      const pieces = sizes.map((size) => randomBytes(size));
      for (const piece of pieces) await client.sendInput(piece);
      client.sendEof();
      assert.deepEqual(await client.closed, { kind: 'done', status: 0 });
      assert.deepEqual(await relayed, { kind: 'done', status: 0 });
      assert(Buffer.concat(client.output).equals(Buffer.concat(pieces)));
    }),
    { numRuns: 20 },
  );
  assert.equal(agent.openStreams, 0);
  agent.close();
});

test('256 MiB pass both ways while the relay holds no more than the windows', async () => {
  const total = 256 * 1024 * 1024;
  const agent = await agentOf(catGuest());
  const { client, daemonSide, relayed } = joinClient(agent, false);
  const chunk = randomBytes(1024 * 1024);
  let peakBytes = 0;
  const watch = (): void => {
    peakBytes = Math.max(peakBytes, daemonSide.writableLength + agent.bufferedBytes);
  };
  daemonSide.on('data', watch);
  client.duplex.on('data', watch);
  for (let sent = 0; sent < total; sent += chunk.length) await client.sendInput(chunk);
  client.sendEof();
  await relayed;
  assert.equal(client.received[0], total);
  assert(peakBytes > 0 && peakBytes < 3 * INITIAL_WINDOW_BYTES, `peak ${peakBytes}`);
  agent.close();
});

test('a client that does not read stops its own stream and no other', async () => {
  const agent = await agentOf(catGuest());
  const slow = joinClient(agent);
  const quick = joinClient(agent);
  slow.client.duplex.pause();
  const input = randomBytes(4 * INITIAL_WINDOW_BYTES);
  const slowInput = slow.client.sendInput(input).then(() => slow.client.sendEof());
  await quick.client.sendInput(input);
  quick.client.sendEof();
  await quick.relayed;
  assert(Buffer.concat(quick.client.output).equals(input));
  await turns();
  assert(slow.client.sendCredit < INITIAL_WINDOW_BYTES);
  assert.equal(slow.client.received[0], 0);
  slow.client.duplex.resume();
  await slowInput;
  await slow.relayed;
  assert(Buffer.concat(slow.client.output).equals(input));
  agent.close();
});

test('a guest that does not read stops the reading of clients', async () => {
  const guest = catGuest();
  const agent = await agentOf(guest);
  guest.side.pause();
  const joined = Array.from({ length: 8 }, () => joinClient(agent));
  const input = Buffer.alloc(INITIAL_WINDOW_BYTES, 'x');
  const sending = joined.map(({ client }) => client.sendInput(input).then(() => client.sendEof()));
  await turns(50);
  assert(joined.some(({ daemonSide }) => daemonSide.isPaused()));
  assert(agent.bufferedBytes < 2 * INITIAL_WINDOW_BYTES, `${agent.bufferedBytes}`);
  guest.side.resume();
  await Promise.all([...sending, ...joined.map(({ relayed }) => relayed)]);
  for (const { client } of joined) assert.equal(client.received[0], input.length);
  agent.close();
});

test('signals, sizes, stderr, ends and statuses pass with the number changed', async () => {
  const { guest, agent, client, relayed } = await connected();
  client.send(FRAME_TYPES.signal, 0, encodeU32(2));
  client.send(FRAME_TYPES.resize, 0, Buffer.from([24, 0, 80, 0]));
  client.send(FRAME_TYPES.data, STDIN, Buffer.from('in'));
  client.sendEof();
  await turns();
  assert.deepEqual(
    guest.frames
      .slice(1)
      .map((frame) => [frame.type, frame.stream, Buffer.from(frame.payload).toString('latin1')]),
    [
      [FRAME_TYPES.signal, 1, '\x02\0\0\0'],
      [FRAME_TYPES.resize, 1, '\x18\0\x50\0'],
      [FRAME_TYPES.data, 1, 'in'],
      [FRAME_TYPES.eof, 1, ''],
    ],
  );
  guest.data(1, STDERR, 'oops');
  guest.send(FRAME_TYPES.eof, 1, STDERR);
  guest.close(1, { kind: 'signaled', signal: 2 });
  assert.deepEqual(await client.closed, { kind: 'signaled', signal: 2 });
  await relayed;
  assert.deepEqual(client.received, [0, 4]);
  agent.close();
});

const hangUps: readonly [string, (client: ModelClient, daemonSide: { destroy(): void }) => void][] = [
  ['ends its side', (client) => client.duplex.end()],
  ['dies', (client, daemonSide) => (client.duplex.destroy(), daemonSide.destroy())],
];

for (const [how, act] of hangUps) {
  test(`a client that ${how} resets the stream in the guest, once`, async () => {
    const { guest, agent, client, daemonSide, relayed } = await connected();
    act(client, daemonSide);
    await turns();
    assert.deepEqual(types(guest.frames), [FRAME_TYPES.open, FRAME_TYPES.reset]);
    guest.data(1, STDOUT, 'late');
    guest.close(1, { kind: 'signaled', signal: 1 });
    assert.deepEqual(await relayed, { kind: 'signaled', signal: 1 });
    assert.equal(agent.openStreams, 0);
    assert.equal(agent.closeReason, undefined);
    agent.close();
  });
}

test('a connection that is gone already resets the stream', async () => {
  const guest = new FakeGuest();
  const agent = await agentOf(guest);
  const [daemonSide] = duplexPair();
  daemonSide.destroy();
  await turns();
  const relayed = relay(agent.exec(CAT), daemonSide);
  await turns();
  assert.deepEqual(types(guest.frames), [FRAME_TYPES.open, FRAME_TYPES.reset]);
  guest.close(1, { kind: 'signaled', signal: 1 });
  await relayed;
  agent.close();
});

test('a client may give up and wait for the end', async () => {
  const { guest, agent, client, relayed } = await connected();
  client.send(FRAME_TYPES.reset);
  await turns();
  guest.data(1, STDOUT, 'dropped');
  guest.close(1, { kind: 'signaled', signal: 9 });
  assert.deepEqual(await client.closed, { kind: 'signaled', signal: 9 });
  await relayed;
  assert.deepEqual(client.received, [0, 0]);
  agent.close();
});

test('a lost guest is told to the client', async () => {
  const { guest, client, relayed } = await connected();
  guest.hostSide.destroy();
  const result = await client.closed;
  assert(result.kind === 'failed' && result.text.startsWith('channel: '), JSON.stringify(result));
  assert.equal((await relayed).kind, 'failed');
});

const window0 = encodeU32(1);
const clientViolations: readonly [string, readonly Uint8Array[]][] = [
  ['another stream', [encodeFrame(FRAME_TYPES.eof, 2, 0)]],
  ['output', [encodeFrame(FRAME_TYPES.data, 1, 1, Buffer.from('x'))]],
  ['input after its end', [encodeFrame(FRAME_TYPES.eof, 1, 0), encodeFrame(FRAME_TYPES.data, 1, 0, window0)]],
  ['credit for its own input', [encodeFrame(FRAME_TYPES.window, 1, 0, window0)]],
  ['credit it does not owe', [encodeFrame(FRAME_TYPES.window, 1, 1, window0)]],
  ['signal 0', [encodeFrame(FRAME_TYPES.signal, 1, 0, encodeU32(0))]],
  ['signal 65', [encodeFrame(FRAME_TYPES.signal, 1, 0, encodeU32(65))]],
  ['OPEN', [encodeFrame(FRAME_TYPES.open, 1, 0, window0)]],
  ['CLOSE', [encodeFrame(FRAME_TYPES.close, 1, 0, new Uint8Array(5))]],
  ['HELLO', [encodeFrame(FRAME_TYPES.hello, 0, 0, window0)]],
  [
    'more input than its credit',
    Array.from({ length: 9 }, () => encodeFrame(FRAME_TYPES.data, 1, 0, new Uint8Array(MAX_PAYLOAD_BYTES))),
  ],
  ['no frames', [Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
];

for (const [what, frames] of clientViolations) {
  test(`a client that sends ${what} is told, its stream reset, the session untouched`, async () => {
    const { guest, agent, client, relayed } = await connected({
      onFrame(frame, fake) {
        if (frame.type === FRAME_TYPES.reset) fake.close(frame.stream, { kind: 'signaled', signal: 1 });
      },
    });
    for (const frame of frames) client.duplex.write(Buffer.from(frame));
    const result = await client.closed;
    assert(result.kind === 'failed' && result.text.startsWith('protocol: '), JSON.stringify(result));
    assert.deepEqual(await relayed, { kind: 'signaled', signal: 1 });
    assert.equal(guest.frames.at(-1)?.type, FRAME_TYPES.reset);
    assert.equal(agent.closeReason, undefined);
    agent.close();
  });
}

test('grants towards a client that does not read are added up', async () => {
  const { guest, agent, client, daemonSide, relayed } = await connected();
  client.duplex.pause();
  for (let i = 0; i < 8; i++) guest.data(1, STDOUT, Buffer.alloc(MAX_PAYLOAD_BYTES));
  const grants = 50_000;
  for (let i = 0; i < grants; i++) guest.send(FRAME_TYPES.window, 1, STDIN, encodeU32(1));
  await turns(20);
  assert(daemonSide.writableLength < INITIAL_WINDOW_BYTES);
  client.duplex.resume();
  while (client.sendCredit < INITIAL_WINDOW_BYTES + grants) await turns(1);
  guest.close(1, { kind: 'done', status: 0 });
  await relayed;
  assert.equal(client.received[0], 8 * MAX_PAYLOAD_BYTES);
  assert.equal(client.sendCredit, INITIAL_WINDOW_BYTES + grants);
  assert(client.grants < 100, `${client.grants} grants`);
  agent.close();
});

test('the guest gets the credit of the client and never more', async () => {
  const { guest, agent, client, relayed } = await connected();
  for (let i = 0; i < 8; i++) guest.data(1, STDOUT, Buffer.alloc(MAX_PAYLOAD_BYTES));
  await turns(20);
  const grants = guest.frames.filter((frame) => frame.type === FRAME_TYPES.window);
  assert.deepEqual(
    grants.map((frame) => [frame.stream, frame.channel, decodeU32(frame.payload)]),
    [
      [1, STDOUT, INITIAL_WINDOW_BYTES / 2],
      [1, STDOUT, INITIAL_WINDOW_BYTES / 2],
    ],
  );
  guest.close(1, { kind: 'done', status: 0 });
  await relayed;
  assert.equal(client.received[0], INITIAL_WINDOW_BYTES);
  agent.close();
});
