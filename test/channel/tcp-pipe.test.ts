/** TCP connections through the real agent, in a process instead of a machine: this process is the client and the guest's server. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import type { AgentClient } from '../../src/guest/agent-client.ts';
import { TcpPipe } from '../../src/guest/tcp-pipe.ts';
import { AgentHost } from '../helpers/agent-host.ts';
import { settled } from '../helpers/test-home.ts';

const MIB = 1024 * 1024;

let host: AgentHost;
let agent: AgentClient;
const open: (Server | Socket)[] = [];

before(async () => {
  host = await AgentHost.start();
  agent = await host.connect();
});
after(async () => {
  agent?.close();
  await host?.[Symbol.asyncDispose]();
});
afterEach(() => {
  for (const one of open.splice(0)) {
    if ('destroy' in one) one.destroy();
    else one.close();
  }
});

/** A server on 127.0.0.1 that calls `serve` with each connection. */
async function listening(serve: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.push(socket);
    socket.on('error', () => undefined);
    serve(socket);
  }).listen(0, '127.0.0.1');
  open.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

interface Ends {
  /** What connects to the published port. */
  readonly client: Socket;
  /** What the guest's server accepted. */
  readonly server: Socket;
  readonly pipe: TcpPipe;
  readonly counts: { moved: number; received: number };
}

async function ends(): Promise<Ends> {
  const accepted = Promise.withResolvers<Socket>();
  const guestPort = await listening((socket) => accepted.resolve(socket));
  const counts = { moved: 0, received: 0 };
  const piped = Promise.withResolvers<TcpPipe>();
  const hostPort = await listening((socket) => {
    const pipe = new TcpPipe(socket, { moved: () => counts.moved++, received: () => counts.received++ });
    pipe.attach(agent.connectTo({ port: guestPort }));
    piped.resolve(pipe);
  });
  const client = connect({ port: hostPort, host: '127.0.0.1', allowHalfOpen: true });
  open.push(client);
  client.on('error', () => undefined);
  return { client, server: await accepted.promise, pipe: await piped.promise, counts };
}

async function textOf(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  return Buffer.concat(chunks).toString();
}

async function errorOf(socket: Socket): Promise<string> {
  socket.resume();
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  return error.code ?? '';
}

test('the answer may follow the end of the question, and the other way round', async () => {
  const asked = await ends();
  asked.client.end('question');
  assert.equal(await textOf(asked.server), 'question');
  asked.server.end('answer');
  assert.equal(await textOf(asked.client), 'answer');
  await asked.pipe.closed;

  const greeted = await ends();
  greeted.server.end('greeting');
  assert.equal(await textOf(greeted.client), 'greeting');
  greeted.client.end('thanks');
  assert.equal(await textOf(greeted.server), 'thanks');
  await greeted.pipe.closed;
  // From the client: bytes, and their end.
  assert.deepEqual([greeted.counts.moved, greeted.counts.received], [2, 2]);
});

test('megabytes pass both ways at once, unchanged', async () => {
  const { client, server, pipe } = await ends();
  const sent = [randomBytes(20 * MIB + 7), randomBytes(17 * MIB + 3)] as const;
  const hashes = [createHash('sha256'), createHash('sha256')] as const;
  server.on('data', (chunk: Buffer) => hashes[0].update(chunk));
  client.on('data', (chunk: Buffer) => hashes[1].update(chunk));
  client.end(sent[0]);
  server.end(sent[1]);
  await pipe.closed;
  if (!server.readableEnded) await once(server, 'end');
  if (!client.readableEnded) await once(client, 'end');
  for (const [index, hash] of hashes.entries()) {
    const bytes = sent[index] ?? assert.fail();
    assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
  }
});

test('one that does not read stops the other, and costs no more than a window', async () => {
  const { client, server } = await ends();
  for (const [from, to] of [
    [server, client],
    [client, server],
  ] as const) {
    to.pause();
    let written = 0;
    const chunk = Buffer.alloc(MIB);
    while (written < 64 && from.writableLength < 4 * MIB) {
      from.write(chunk);
      written++;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(from.writableLength >= 4 * MIB, 'it takes all');
    assert.ok(agent.bufferedBytes < MIB, `${agent.bufferedBytes}`);
    let read = 0;
    to.on('data', (more: Buffer) => {
      read += more.length;
    });
    to.resume();
    await settled(() => read === written * MIB);
    assert.equal(read, written * MIB);
  }
});

test('a reset passes, both ways', async () => {
  const first = await ends();
  first.client.write('x');
  await once(first.server.resume(), 'data');
  first.server.resetAndDestroy();
  assert.equal(await errorOf(first.client), 'ECONNRESET');
  await first.pipe.closed;

  const second = await ends();
  second.client.write('x');
  await once(second.server.resume(), 'data');
  second.client.resetAndDestroy();
  assert.equal(await errorOf(second.server), 'ECONNRESET');
});

test('what came before a reset arrives before it', async () => {
  const { client, server, counts } = await ends();
  server.write('last words');
  while (counts.moved === 0) await new Promise((resolve) => setImmediate(resolve));
  server.resetAndDestroy();
  let read = '';
  client.on('data', (chunk: Buffer) => {
    read += chunk.toString();
  });
  assert.equal(await errorOf(client), 'ECONNRESET');
  assert.equal(read, 'last words');
});

test('nobody listens in the guest: the connection is reset', async () => {
  const free = await listening(() => undefined);
  for (const one of open.splice(0)) (one as Server).close();
  const port = await listening((socket) => {
    const pipe = new TcpPipe(socket, { moved: () => undefined, received: () => undefined });
    pipe.attach(agent.connectTo({ port: free }));
  });
  const client = connect({ port, host: '127.0.0.1' });
  open.push(client);
  assert.equal(await errorOf(client), 'ECONNRESET');
});

test('an abort resets both, and the end of the session resets the client', async () => {
  const { client, server, pipe } = await ends();
  const seen = Promise.all([errorOf(client), errorOf(server)]);
  pipe.abort();
  assert.deepEqual(await seen, ['ECONNRESET', 'ECONNRESET']);

  const lost = await ends();
  const failed = Promise.all([errorOf(lost.client), errorOf(lost.server)]);
  agent.close();
  assert.deepEqual(await failed, ['ECONNRESET', 'ECONNRESET']);
  agent = await host.connect();
});

test('bytes that come before the stream are kept, and a client that has gone by then leaves no stream', async () => {
  const guest = Promise.withResolvers<Socket>();
  const guestPort = await listening((socket) => guest.resolve(socket));
  const pipes: TcpPipe[] = [];
  let received = 0;
  const port = await listening((socket) =>
    pipes.push(new TcpPipe(socket, { moved: () => undefined, received: () => received++ })),
  );
  const client = connect({ port, host: '127.0.0.1' });
  open.push(client);
  client.end('early');
  await settled(() => received > 0);
  pipes[0]?.attach(agent.connectTo({ port: guestPort }));
  assert.equal(await textOf(await guest.promise), 'early');

  const gone = connect({ port, host: '127.0.0.1' });
  gone.on('error', () => undefined);
  while (pipes.length < 2) await new Promise((resolve) => setImmediate(resolve));
  gone.resetAndDestroy();
  await pipes[1]?.closed;
  const stream = agent.connectTo({ port: guestPort });
  pipes[1]?.attach(stream);
  assert.equal((await stream.result).kind, 'failed');
});
