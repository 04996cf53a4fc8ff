import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { someVm } from '../../../../test/helpers/store-records.ts';
import type { BoundPort, ForwardedPort, PublishedPort, VmRecord } from '../../../core/model/vm.ts';
import { MAX_FORWARDED_PORTS } from '../../../core/published-port.ts';
import type { GuestPort } from '../../../guest/answers.ts';
import { NO_LOG } from '../../../host/log.ts';
import { AutoPorts, forwardable } from './auto-ports.ts';
import { PortForwards } from './port-forwards.ts';

const HERE = '127.77.77.2';
const OTHER = '127.77.77.3';

let auto: AutoPorts;
const servers: Server[] = [];
const forwards = new PortForwards({
  awake: async () => assert.fail('nobody connects'),
  log: NO_LOG,
  hostAddressOf: ({ name }) => (name === 'other' ? OTHER : HERE),
});
beforeEach(() => {
  auto = new AutoPorts({
    address: HERE,
    // Says where in the guest it would have come.
    serve: (socket, { address = 'loopback', port }) => socket.end(`${address} ${port}`),
    takenBy: () => 'somebody',
    isPublished: () => false,
  });
});
afterEach(() => {
  auto.close();
  forwards.closeAll();
  for (const server of servers.splice(0)) server.close();
});

async function listen(port: number, host: string): Promise<number> {
  const server = createServer().listen(port, host);
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const port = await listen(0, '0.0.0.0');
  const server = servers.pop();
  server?.close();
  return port;
}

/** What is heard there; undefined: nobody listens. */
async function heard(port: number, host = HERE): Promise<string | undefined> {
  const socket = connect({ port, host });
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  let text = '';
  socket
    .on('data', (chunk) => (text += String(chunk)))
    .once('end', () => resolve(text))
    .once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED' ? undefined : code));
  return await promise.finally(() => socket.destroy());
}

const listener = (address: string, port: number, protocol: 'tcp' | 'udp' = 'tcp'): GuestPort => ({
  ...{ protocol, address, port },
  ...{ pid: 1, process: 'server' },
});

function vm(name: string, publish: readonly PublishedPort[] = [], forwarded?: ForwardedPort[]): VmRecord {
  const base = someVm('image', { id: name.padEnd(32, '0'), name });
  const runtime = forwarded === undefined ? {} : { forwarded };
  return { ...base, guestIp: '172.16.0.2', spec: { ...base.spec, publish }, runtime };
}
const idOf = (name: string): string => name.padEnd(32, '0');

test('listeners come and go with those of the guest, and nobody else sees them', async () => {
  const [one, two] = [await freePort(), await freePort()];
  await auto.follow([{ port: one }]);
  assert.equal(await heard(one), `loopback ${one}`);
  assert.equal(await heard(one, OTHER), undefined);
  await auto.follow([{ port: one, address: '172.16.0.2' }, { port: two }]);
  assert.equal(await heard(one), `172.16.0.2 ${one}`);
  assert.equal(await heard(two), `loopback ${two}`);
  await auto.follow([{ port: two }]);
  assert.equal(await heard(one), undefined);
  assert.equal(await heard(two), `loopback ${two}`);
  auto.close();
  assert.equal(await heard(two), undefined);
  await auto.follow([{ port: two }]);
  assert.equal(await heard(two), undefined);
});

test('what is asked for at the same time is done one after the other', async () => {
  const port = await freePort();
  await Promise.all([auto.follow([{ port }]), auto.follow([]), auto.follow([{ port }])]);
  assert.deepEqual(auto.list, [{ port }]);
  assert.equal(await heard(port), `loopback ${port}`);
  const last = Promise.all([auto.follow([{ port }]), auto.follow([])]);
  await last;
  assert.equal(await heard(port), undefined);
});

test('a port that is taken says so, the others are open, and it is tried again', async () => {
  const taken = await listen(0, HERE);
  const free = await freePort();
  await auto.follow([{ port: taken }, { port: free }]);
  const problem = 'somebody has that port of this host';
  const expected = [{ port: taken, problem }, { port: free }];
  assert.deepEqual(
    auto.list,
    expected.toSorted((a, b) => a.port - b.port),
  );
  servers.pop()?.close();
  await auto.follow([{ port: taken }]);
  assert.deepEqual(auto.list, [{ port: taken }]);
  assert.equal(await heard(taken), `loopback ${taken}`);
});

test('a guest that listens everywhere gets so many and keeps those it had', async () => {
  const all = Array.from({ length: 1000 }, (_, index) => ({ port: 20_000 + index }));
  await auto.follow([{ port: 20_900 }]);
  await auto.follow(all);
  assert.equal(auto.list.length, MAX_FORWARDED_PORTS);
  assert.equal(auto.list.at(-1)?.port, 20_900);
});

test('what counts as listening: TCP, by loopback where that reaches it, else by its own address', () => {
  const listening = [
    listener('172.16.0.2', 80),
    listener('::', 80),
    listener('::1', 81),
    listener('172.16.0.2', 82),
    listener('127.0.0.53', 53),
    listener('fe80::1', 83),
    listener('fe80::1%eth0', 84),
    listener('2001:db8::1', 85),
    listener('0.0.0.0', 86, 'udp'),
    listener('0.0.0.0', 0),
  ];
  assert.deepEqual(forwardable(listening), [
    { port: 80 },
    { port: 81 },
    { port: 82, address: '172.16.0.2' },
    { port: 53, address: '127.0.0.53' },
    { port: 85, address: '2001:db8::1' },
  ]);
});

test('a VM that is not open has no ports, and a closed one loses them', async () => {
  const port = await freePort();
  const listening = [listener('0.0.0.0', port)];
  assert.equal(await forwards.follow(idOf('dev'), listening), undefined);
  await forwards.open(vm('dev'));
  assert.deepEqual(await forwards.follow(idOf('dev'), listening), [{ port }]);
  assert.notEqual(await heard(port), undefined);
  const following = forwards.follow(idOf('dev'), listening);
  forwards.close(idOf('dev'));
  assert.equal(await following, undefined);
  assert.equal(await heard(port), undefined);
});

test('nothing appears by itself where that is turned off', async () => {
  const quiet = new PortForwards({ awake: async () => assert.fail(), log: NO_LOG });
  await quiet.open(vm('dev'));
  assert.equal(await quiet.follow(idOf('dev'), [listener('0.0.0.0', await freePort())]), undefined);
});

test('the ports of a VM that sleeps or runs are opened again by the next daemon', async () => {
  const port = await freePort();
  await forwards.reopen(vm('dev', [], [{ port }]));
  assert.notEqual(await heard(port), undefined);
});

test('a published port goes before those that appear by themselves, of all VMs, and gives them back', async () => {
  const port = await freePort();
  for (const name of ['dev', 'other']) {
    await forwards.open(vm(name));
    await forwards.follow(idOf(name), [listener('0.0.0.0', port)]);
  }
  const any: BoundPort = { hostAddress: '0.0.0.0', hostPort: port, guestPort: 1 };
  assert.deepEqual(await forwards.open(vm('third', [any])), [any]);
  const problem = 'VM "third" has that port of this host';
  assert.deepEqual(await forwards.follow(idOf('other'), [listener('0.0.0.0', port)]), [{ port, problem }]);
  forwards.close(idOf('third'));
  assert.deepEqual(await forwards.follow(idOf('other'), [listener('0.0.0.0', port)]), [{ port }]);
});

test('a port that its VM publishes on all addresses needs no listener of its own', async () => {
  const port = await freePort();
  await forwards.open(vm('dev', [{ hostAddress: '0.0.0.0', hostPort: port, guestPort: port }]));
  assert.deepEqual(await forwards.follow(idOf('dev'), [listener('0.0.0.0', port)]), [{ port }]);
});
