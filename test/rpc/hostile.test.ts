import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { encodeMessage } from '../../src/rpc/framing.ts';
import { listen } from '../../src/rpc/server.ts';
import { aborted, Fixture, gate, handlersWith } from './fixture.ts';

const LIST = { 'vm.list': async () => [] };

/** What the server must answer on the connection before it hangs up; undefined: nothing need be said. */
const GARBAGE: readonly [string, Buffer, string][] = [
  ['not the protocol', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), 'bad_request'],
  ['a header without end', Buffer.alloc(5000, 'a'), 'bad_request'],
  ['a length that is no number', Buffer.from('Content-Length: x\r\n\r\n'), 'bad_request'],
  ['a negative length', Buffer.from('Content-Length: -5\r\n\r\n'), 'bad_request'],
  ['two lengths', Buffer.from('Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}'), 'bad_request'],
  ['an absurd length', Buffer.from('Content-Length: 9999999999\r\n\r\n'), 'limit_exceeded'],
  ['a body that is not JSON', Buffer.from('Content-Length: 3\r\n\r\n{]}'), 'bad_request'],
  ['null', Buffer.from('Content-Length: 4\r\n\r\nnull'), 'bad_request'],
  ['a batch', Buffer.from('Content-Length: 2\r\n\r\n[]'), 'bad_request'],
  ['a response', encodeMessage({ jsonrpc: '2.0', id: 1, result: 1 }), 'bad_request'],
  ['an id that is an object', encodeMessage({ id: {}, method: 'vm.list' }), 'bad_request'],
  ['an id that is null', encodeMessage({ id: null, method: 'vm.list' }), 'bad_request'],
  ['a cancellation of nothing', encodeMessage({ method: '$/cancelRequest' }), 'bad_request'],
  ['a method of 1 KB', encodeMessage({ id: 1, method: 'm'.repeat(1024) }), 'bad_request'],
];

for (const [what, bytes, code] of GARBAGE) {
  test(`${what} is refused and hung up on; others are served on`, async () => {
    await using fixture = await Fixture.start(LIST);
    const peer = await fixture.raw();
    peer.socket.write(bytes);
    await peer.closed;
    const refusal = peer.received.find((message) => message.id === null);
    assert.equal(refusal?.error?.data?.['code'], code);
    const client = await fixture.client();
    assert.deepEqual(await client.call('vm.list', {}), []);
  });
}

test('a message over the limit is refused before it is read; one below it is served in pieces', async () => {
  await using fixture = await Fixture.start(
    { 'vm.show': async ({ ref }) => ({ name: ref }) as never },
    { limits: { requestBytes: 1000 } },
  );
  const peer = await fixture.raw();
  const message = encodeMessage({ id: 1, method: 'vm.show', params: { ref: 'dev' } });
  peer.send(peer.hello());
  for (const byte of message) {
    peer.socket.write(Buffer.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual((await peer.answer(1)).result, { name: 'dev' });
  peer.socket.write('Content-Length: 1001\r\n\r\n');
  await peer.closed;
  assert.equal(peer.received.find(({ id }) => id === null)?.error?.data?.['code'], 'limit_exceeded');
});

test('the client says itself that a request is too large, and goes on', async () => {
  await using fixture = await Fixture.start(LIST);
  const client = await fixture.client();
  const huge = { ref: 'x'.repeat(5 * 1024 * 1024) };
  await assert.rejects(client.call('vm.show', huge), { code: 'limit_exceeded' });
  assert.deepEqual(await client.call('vm.list', {}), []);
});

test('an id in use twice is refused', async () => {
  const entered = gate();
  await using fixture = await Fixture.start({
    'vm.start': async (_params, { signal }) => {
      entered.resolve();
      throw await aborted(signal);
    },
  });
  const peer = await fixture.raw();
  peer.send(peer.hello(), { id: 1, method: 'vm.start', params: { ref: 'a' } });
  await entered.promise;
  peer.send({ id: '1', method: 'vm.start', params: { ref: 'b' } });
  await peer.closed;
  assert.match(peer.received.find(({ id }) => id === null)?.error?.message ?? '', /in use/);
});

test('too many requests at once are refused one by one', async () => {
  const end = gate();
  await using fixture = await Fixture.start(
    {
      'vm.list': async () => {
        await end.promise;
        return [];
      },
    },
    { limits: { requestsPerConnection: 3 } },
  );
  const peer = await fixture.raw();
  const requests = [1, 2, 3].map((id) => ({ id, method: 'vm.list', params: {} }));
  peer.send(peer.hello());
  await peer.answer('hello');
  peer.send(...requests, { id: 4, method: 'vm.list', params: {} });
  assert.equal((await peer.answer(4)).error?.data?.['code'], 'limit_exceeded');
  end.resolve();
  for (const { id } of requests) assert.deepEqual((await peer.answer(id)).result, []);
  peer.send({ id: 5, method: 'vm.list', params: {} });
  assert.deepEqual((await peer.answer(5)).result, []);
});

test('too many connections are refused with a reason, until one goes', async () => {
  await using fixture = await Fixture.start(LIST, { limits: { connections: 2 } });
  const first = await fixture.client();
  const second = await fixture.client();
  await first.call('vm.list', {});
  await second.call('vm.list', {});
  const third = await fixture.client();
  await assert.rejects(third.call('vm.list', {}), { code: 'limit_exceeded' });
  first.close();
  while (fixture.server.connections > 1) await new Promise((resolve) => setImmediate(resolve));
  const fourth = await fixture.client();
  assert.deepEqual(await fourth.call('vm.list', {}), []);
});

test('a client that says nothing is hung up on; one that has spoken may stay', async () => {
  await using fixture = await Fixture.start(LIST, { limits: { openingTimeoutMs: 30 } });
  const silent = await fixture.raw();
  const partial = await fixture.raw();
  const stream = await fixture.raw(fixture.streamSocketPath);
  const spoken = await fixture.raw();
  partial.socket.write('Content-Length: 10\r\n\r\n{');
  stream.socket.write('abc');
  spoken.send(spoken.hello());
  await Promise.all([silent.closed, partial.closed, stream.closed]);
  spoken.send({ id: 1, method: 'vm.list', params: {} });
  assert.deepEqual((await spoken.answer(1)).result, []);
});

test('a client that does not read is hung up on', async () => {
  const reached = gate<unknown>();
  await using fixture = await Fixture.start(
    {
      'vm.start': async (_params, { signal, progress, connection }) => {
        connection.closed.addEventListener('abort', () => reached.resolve(connection.closed.reason));
        while (!signal.aborted) {
          progress({ step: 'boot', text: 'x'.repeat(10_000) });
          await new Promise((resolve) => setImmediate(resolve));
        }
        throw signal.reason;
      },
    },
    { limits: { unreadBytes: 100_000 } },
  );
  const peer = await fixture.raw();
  peer.socket.pause();
  peer.send(peer.hello(), { id: 1, method: 'vm.start', params: { ref: 'dev' } });
  await reached.promise;
  assert.ok(fixture.log.some(({ level, message }) => level === 'warn' && /does not read/.test(message)));
});

test('hostile answers end the client with an error', async () => {
  const { createServer } = await import('node:net');
  await using fixture = await Fixture.start();
  const path = join(dirname(fixture.socketPath), 'fake.sock');
  for (const bytes of [
    'HTTP/1.1 200 OK\r\n\r\n',
    'Content-Length: 99999999999\r\n\r\n',
    'Content-Length: 1\r\n\r\n{',
  ]) {
    const server = createServer((socket) => socket.resume().end(bytes)).listen(path);
    const client = await fixture.client({ socketPath: path });
    await assert.rejects(client.call('vm.list', {}), { code: 'unavailable' });
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a daemon that accepts and stays silent is a timeout', async () => {
  const { createServer } = await import('node:net');
  await using fixture = await Fixture.start();
  const path = join(dirname(fixture.socketPath), 'silent.sock');
  const server = createServer((socket) => socket.resume()).listen(path);
  const client = await fixture.client({ socketPath: path, helloTimeoutMs: 20 });
  await assert.rejects(client.call('vm.list', {}), { code: 'timeout' });
  await new Promise((resolve) => server.close(resolve));
});

test('the sockets are private; stale ones are replaced, other files are not', async () => {
  await using fixture = await Fixture.start(LIST);
  for (const path of [fixture.socketPath, fixture.streamSocketPath]) {
    assert.equal(statSync(path).mode & 0o077, 0);
  }
  assert.equal(statSync(dirname(fixture.socketPath)).mode & 0o777, 0o700);
  const common = { handlers: handlersWith({}), tickets: fixture.tickets, version: '1', log: nullLog() };
  const file = join(dirname(fixture.socketPath), 'file');
  writeFileSync(file, 'precious');
  await assert.rejects(listen({ ...common, socketPath: file, streamSocketPath: `${fixture.dir}/run/o` }), {
    code: 'io_error',
  });
  const open = join(fixture.dir, 'open');
  mkdirSync(open);
  chmodSync(open, 0o755);
  await assert.rejects(listen({ ...common, socketPath: `${open}/a`, streamSocketPath: `${open}/b` }), {
    code: 'permission',
  });
  const long = join(fixture.dir, 'x'.repeat(120));
  await assert.rejects(listen({ ...common, socketPath: long, streamSocketPath: long }), { code: 'usage' });
});

function nullLog() {
  return { debug: () => undefined, warn: () => undefined, error: () => undefined };
}
