import assert from 'node:assert/strict';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { decode, encode, type Packet, streamEncode } from 'dns-packet';
import { settled } from '../../../test/helpers/test-home.ts';
import { NO_LOG } from '../../host/log.ts';
import type { Zone } from './answer.ts';
import { NameServer } from './name-server.ts';

const ADDRESS = '127.107.251.2';
const zone: Zone = {
  addressOf: (name) => (name === 'dev' ? ADDRESS : undefined),
  nameOf: () => undefined,
  reverseZone: '251.107.127.in-addr.arpa',
};
const question: Packet = { id: 7, type: 'query', questions: [{ name: 'dev.vm', type: 'A' }] };

const closing: { close(): unknown }[] = [];
afterEach(() => {
  for (const one of closing.splice(0)) one.close();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

function serverOn(port: number, of: Zone = zone, host = '127.0.0.1'): NameServer {
  const server = new NameServer({ host, port, zone: of, log: NO_LOG, retryMs: 20 });
  closing.push(server);
  return server;
}

async function client(): Promise<UdpSocket> {
  const socket = createSocket('udp4');
  closing.push(socket);
  return socket;
}

async function askOverUdp(port: number): Promise<unknown> {
  const socket = await client();
  socket.send(encode(question), port, '127.0.0.1');
  const [answer] = (await once(socket, 'message')) as [Buffer];
  const [record] = decode(answer).answers ?? [];
  return record?.type === 'A' ? record.data : undefined;
}

async function overTcp(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  closing.push({ close: () => socket.destroy() });
  await once(socket, 'connect');
  return socket;
}

async function bytes(socket: Socket, count: number): Promise<Buffer> {
  let heard = Buffer.alloc(0);
  while (heard.length < count) heard = Buffer.concat([heard, (await once(socket, 'data'))[0] as Buffer]);
  return heard;
}

test('answers over UDP and TCP, on the address it was given', async () => {
  const port = await freePort();
  const server = serverOn(port);
  assert.equal(server.status.state, 'starting');
  await server.start();
  assert.deepEqual(server.status, { address: `127.0.0.1:${port}`, state: 'listening', problem: null });
  assert.equal(await askOverUdp(port), ADDRESS);
  const socket = await overTcp(port);
  const message = streamEncode(question);
  // Two questions at once, and one in pieces.
  socket.write(Buffer.concat([message, message, message.subarray(0, 1)]));
  socket.write(message.subarray(1));
  const length = (await bytes(socket, 2)).readUInt16BE(0);
  assert.ok(length > message.length);
});

test('nonsense over UDP is survived; over TCP it ends that connection only', async () => {
  const port = await freePort();
  await serverOn(port).start();
  const socket = await client();
  for (const length of [0, 1, 11, 12, 5000]) socket.send(Buffer.alloc(length, 0xff), port, '127.0.0.1');
  const long = await overTcp(port);
  long.on('error', () => undefined);
  let heardBytes = 0;
  long.on('data', (chunk: Buffer) => (heardBytes += chunk.length));
  // Its length is enough: nobody waits for the rest, and it is not answered.
  long.write(Buffer.concat([Buffer.of(0xff, 0xff), Buffer.alloc(0xffff)]));
  await new Promise((resolve) => long.once('close', resolve));
  assert.equal(heardBytes, 0);
  assert.equal(await askOverUdp(port), ADDRESS);
});

test('what breaks in an answer breaks nothing else', async () => {
  const port = await freePort();
  let isBroken = true;
  const addressOf = (): string => {
    if (!isBroken) return ADDRESS;
    isBroken = false;
    throw new Error('the database is locked');
  };
  await serverOn(port, { ...zone, addressOf }).start();
  const socket = await client();
  socket.send(encode(question), port, '127.0.0.1');
  await settled(() => !isBroken);
  assert.equal(await askOverUdp(port), ADDRESS);
});

test('a port that is taken, on either protocol, is told and tried again', async () => {
  const port = await freePort();
  const holder = createServer().listen(port, '127.0.0.1');
  await once(holder, 'listening');
  const server = serverOn(port);
  await server.start();
  assert.deepEqual(server.status, {
    ...{ address: `127.0.0.1:${port}`, state: 'failed' },
    problem: 'another program has that port, perhaps another banger',
  });
  const datagrams = createSocket('udp4');
  closing.push(datagrams);
  datagrams.bind(port, '127.0.0.1');
  await once(datagrams, 'listening');
  holder.close();
  const other = serverOn(port);
  await other.start();
  assert.equal(other.status.state, 'failed');
  other.close();
  datagrams.close();
  closing.splice(closing.indexOf(datagrams), 1);
  await settled(() => server.status.state === 'listening');
  assert.equal(await askOverUdp(port), ADDRESS);
});

test('a closed one listens no more, and does not come back', async () => {
  const port = await freePort();
  const server = serverOn(port);
  const starting = server.start();
  server.close();
  await starting;
  const next = serverOn(port);
  await next.start();
  assert.equal(next.status.state, 'listening');
});

test('on IPv6 too', async () => {
  const port = await freePort();
  const server = serverOn(port, zone, '::1');
  await server.start();
  assert.deepEqual(server.status, { address: `[::1]:${port}`, state: 'listening', problem: null });
});
