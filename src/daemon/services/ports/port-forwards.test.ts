import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeGuest } from '../../../../test/helpers/fake-guest.ts';
import { someVm } from '../../../../test/helpers/store-records.ts';
import { settled } from '../../../../test/helpers/test-home.ts';
import { FRAME_TYPES, type Frame, STDOUT } from '../../../core/channel/frame.ts';
import type { BoundPort, PublishedPort, VmRecord } from '../../../core/model/vm.ts';
import { NO_LOG } from '../../../host/log.ts';
import type { Machine } from '../../../vmm/driver.ts';
import type { Awake } from '../vms/awake.ts';
import { LiveVm } from '../vms/live-vm.ts';
import { PortForwards } from './port-forwards.ts';
import { MAX_CONNECTIONS } from './vm-ports.ts';

/** docs/agent-protocol.md, "Operations". */
const HEALTH = 3;
const HEALTHY = {
  uptimeMs: 1,
  bootId: '6f1c2d3e-0000-4000-8000-000000000001',
  memoryTotalKib: 1,
  memoryAvailableKib: 1,
  load1: 0,
  processes: 1,
  diskTotalBytes: 1,
  diskFreeBytes: 1,
  init: 'agent',
  configured: true,
};
const CONNECT = 10;

let awake: Awake;
let asked: number;
let forwards: PortForwards;
const sockets: Socket[] = [];
const servers: Server[] = [];

beforeEach(() => {
  asked = 0;
  const live = liveVm();
  awake = async () => live;
  const counting: Awake = (vmId, signal) => {
    asked++;
    return awake(vmId, signal);
  };
  forwards = new PortForwards({ awake: counting, log: NO_LOG });
});
afterEach(() => {
  forwards.closeAll();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

/** In its guest every port answers with its number, then with what it hears; an end with an end. */
function liveVm(guests: FakeGuest[] = []): LiveVm {
  const machine = {
    exited: new Promise<never>(() => undefined),
    release: () => undefined,
    connectChannel: async () => {
      const guest = new FakeGuest({ onFrame: echo });
      guests.push(guest);
      return guest.hostSide;
    },
  };
  return new LiveVm('1'.repeat(32), machine as unknown as Machine, 'launched');
}

function echo(frame: Frame, guest: FakeGuest): void {
  const { stream, payload } = frame;
  if (frame.type === FRAME_TYPES.open) {
    if (payload[0] === HEALTH) {
      guest.data(stream, STDOUT, JSON.stringify(HEALTHY));
      return guest.close(stream, { kind: 'done', status: 0 });
    }
    assert.equal(payload[0], CONNECT);
    guest.data(stream, STDOUT, `${Buffer.from(payload).readUInt16LE(payload.length - 2)}:`);
  } else if (frame.type === FRAME_TYPES.data) {
    guest.data(stream, STDOUT, payload);
  } else if (frame.type === FRAME_TYPES.eof) {
    guest.send(FRAME_TYPES.eof, stream, STDOUT);
    guest.close(stream, { kind: 'done', status: 0 });
  }
}

const local = (hostPort: number, guestPort = 80): PublishedPort => ({
  hostAddress: '127.0.0.1',
  hostPort,
  guestPort,
});

function vm(name: string, publish: readonly PublishedPort[], published?: readonly BoundPort[]): VmRecord {
  const base = someVm('image', { id: name.padEnd(32, '0'), name });
  const runtime = published === undefined ? {} : { published };
  return { ...base, guestIp: '172.16.0.2', spec: { ...base.spec, publish }, runtime };
}

async function portOf(name: string, publish = [local(0)]): Promise<number> {
  const [bound] = await forwards.open(vm(name, publish));
  assert.ok(bound !== undefined && bound.hostPort > 0);
  return bound.hostPort;
}

async function client(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function hears(socket: Socket, expected: string): Promise<void> {
  let heard = '';
  while (heard.length < expected.length) heard += String((await once(socket, 'data'))[0]);
  assert.equal(heard, expected);
}

/** A connection that may be reset before it is known to stand. */
function doomed(port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1' });
  sockets.push(socket);
  return socket;
}

async function isReset(socket: Socket): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNRESET'));
  socket.once('end', () => resolve(false));
  socket.resume();
  return await promise;
}

/** Some other program's server. */
async function another(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  const { promise, resolve } = Promise.withResolvers<boolean>();
  server.once('listening', () => resolve(true)).once('error', () => resolve(false));
  return await promise.finally(() => server.close());
}

async function openConnectionsAre(id: string, expected: number): Promise<void> {
  await settled(() => forwards.traffic(id).openConnections === expected);
  assert.equal(forwards.traffic(id).openConnections, expected);
}

test('a connection reaches the port it stands for, and each port its own', async () => {
  const bound = await forwards.open(vm('a', [local(0, 80), local(0, 8080)]));
  for (const { hostPort, guestPort } of bound) {
    const socket = await client(hostPort);
    await hears(socket, `${guestPort}:`);
    socket.end('hello');
    await hears(socket, 'hello');
    await once(socket, 'end');
  }
});

test('IPv6 has its own ports, on all addresses, too', async () => {
  const [bound] = await forwards.open(vm('a', [{ hostAddress: '::', hostPort: 0, guestPort: 80 }]));
  const port = bound?.hostPort ?? assert.fail();
  const socket = connect({ port, host: '::1' });
  sockets.push(socket);
  await hears(socket, '80:');
  assert.ok(await isFree(port));
});

test('a chosen port is chosen again if it is free, also by a daemon that finds the VM running', async () => {
  const port = await portOf('a');
  const before = [local(port)];
  forwards.close('a'.padEnd(32, '0'));
  assert.deepEqual(await forwards.open(vm('a', [local(0)], before)), before);
  assert.deepEqual(await forwards.reopen(vm('a', [local(0)], before)), before);
  const other = await another();
  const [moved] = await forwards.open(vm('b', [local(0)], [local(other)]));
  assert.notEqual(moved?.hostPort, other);
  // What was remembered was of another port of the guest.
  const free = await portOf('probe');
  forwards.close('probe'.padEnd(32, '0'));
  const [changed] = await forwards.open(vm('c', [local(0, 81)], [local(free)]));
  assert.notEqual(changed?.hostPort, free);
});

test('a port that is taken: by which VM, or by another program; and none of the others stays open', async () => {
  const port = await portOf('first');
  const taken = {
    code: 'in_use',
    message: `127.0.0.1:${port} cannot be published: VM "first" has that port`,
  };
  const free = await portOf('probe');
  forwards.close('probe'.padEnd(32, '0'));
  await assert.rejects(forwards.open(vm('second', [local(free), local(port)])), taken);
  assert.ok(await isFree(free));
  const any = { ...local(port), hostAddress: '0.0.0.0' };
  await assert.rejects(forwards.open(vm('second', [any])), { code: 'in_use', message: /VM "first"/ });
  const other = await another();
  await assert.rejects(forwards.open(vm('second', [local(other)])), {
    code: 'in_use',
    message: `127.0.0.1:${other} cannot be published: another program has that port`,
  });
  await assert.rejects(forwards.open(vm('second', [{ ...local(0), hostAddress: '192.0.2.1' }])), {
    code: 'bad_request',
    message: /this host has no such address/,
  });
});

test('the ports of a running VM: those that cannot be had say why, the others are open', async () => {
  const other = await another();
  const [failed, open] = await forwards.reopen(vm('a', [local(other), local(0)]));
  assert.deepEqual(failed, {
    ...local(other),
    problem: `127.0.0.1:${other} cannot be published: another program has that port`,
  });
  assert.equal(open?.problem, undefined);
  await hears(await client(open?.hostPort ?? 0), '80:');
});

test('closing frees the port at once and resets who is connected', async () => {
  const port = await portOf('a');
  const socket = await client(port);
  await hears(socket, '80:');
  const reset = isReset(socket);
  forwards.close('a'.padEnd(32, '0'));
  assert.ok(await isFree(port));
  assert.ok(await reset);
  assert.deepEqual(forwards.traffic('a'.padEnd(32, '0')), { openConnections: 0, lastTrafficAtMs: undefined });
});

test('clients of a VM that is not awake wait, with what they have sent', async () => {
  const woken = Promise.withResolvers<LiveVm>();
  awake = () => woken.promise;
  const port = await portOf('a');
  const waiting = await Promise.all([client(port), client(port)]);
  for (const socket of waiting) socket.write('hello');
  const answers = Promise.all(waiting.map((socket) => hears(socket, '80:hello')));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(asked, 1);
  woken.resolve(liveVm());
  await answers;
});

test('clients of a VM that cannot be awake are reset', async () => {
  awake = async () => {
    throw new Error('it has ended');
  };
  assert.ok(await isReset(doomed(await portOf('a'))));
});

test("a client's bytes ask for the VM to be awake, an open connection does not", async () => {
  const socket = await client(await portOf('a'));
  await hears(socket, '80:');
  const before = asked;
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(asked, before);
  socket.write('x');
  await settled(() => asked > before);
  assert.ok(asked > before);
  // Many bytes are not many questions.
  for (let index = 0; index < 100; index++) {
    socket.write('x');
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(asked < before + 20, `${asked - before}`);
});

test('so does its end: a guest that stands still would never hear of it, and the connection never close', async () => {
  const socket = await client(await portOf('a'));
  await hears(socket, '80:');
  const before = asked;
  socket.end();
  await settled(() => asked > before);
  assert.ok(asked > before);
});

test('traffic is bytes and new connections, not open ones', async () => {
  const id = 'a'.padEnd(32, '0');
  assert.equal(forwards.traffic(id).lastTrafficAtMs, undefined);
  const begun = performance.now();
  const socket = await client(await portOf('a'));
  await hears(socket, '80:');
  const { openConnections, lastTrafficAtMs } = forwards.traffic(id);
  assert.equal(openConnections, 1);
  assert.ok(lastTrafficAtMs !== undefined && lastTrafficAtMs >= begun);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(forwards.traffic(id).lastTrafficAtMs, lastTrafficAtMs);
  socket.end('x');
  await hears(socket, 'x');
  await once(socket, 'close');
  assert.ok((forwards.traffic(id).lastTrafficAtMs ?? 0) > lastTrafficAtMs);
  await openConnectionsAre(id, 0);
});

test('a lost session resets its connections, and new ones get a new session', async () => {
  const guests: FakeGuest[] = [];
  const live = liveVm(guests);
  awake = async () => live;
  const port = await portOf('a');
  const socket = await client(port);
  await hears(socket, '80:');
  const reset = isReset(socket);
  guests[0]?.hostSide.destroy();
  assert.ok(await reset);
  await hears(await client(port), '80:');
  assert.equal(guests.length, 2);
});

test('more connections than a VM may have are reset, and there is room again when one ends', async () => {
  awake = () => new Promise(() => undefined);
  const port = await portOf('a');
  const some: Socket[] = [];
  for (let index = 0; index < MAX_CONNECTIONS; index++) some.push(await client(port));
  const id = 'a'.padEnd(32, '0');
  await openConnectionsAre(id, MAX_CONNECTIONS);
  assert.ok(await isReset(doomed(port)));
  some[0]?.resetAndDestroy();
  await openConnectionsAre(id, MAX_CONNECTIONS - 1);
  await client(port);
  await openConnectionsAre(id, MAX_CONNECTIONS);
});
