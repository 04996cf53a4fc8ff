/** Each copy is a machine of its own to everybody who asks it, and on its own network; its source stays what it is. */

import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { assertDistinct, drop, fork, forkOf, leaveRunning, snapshot, source } from '../../helpers/copies.ts';
import { TestHome } from '../../helpers/test-home.ts';

const FACTS: readonly (readonly [string, string])[] = [
  ['hostname', 'hostname'],
  ['/etc/hostname', 'cat /etc/hostname'],
  ['machine id', 'cat /etc/machine-id'],
  ['boot id', 'cat /proc/sys/kernel/random/boot_id'],
  ['MAC', 'cat /sys/class/net/eth0/address'],
  ['IPv4', "ip -4 -o addr show eth0 | awk '{print $4}'"],
];
/** Ends when the interface has this link-local address and no other. */
const UNTIL_ONLY_LINK_LOCAL = `
for try in $(seq 100); do
  [ "$(ip -6 -o addr show eth0 scope link | awk '{print $4}')" = "$1/64" ] && exit 0
  sleep 0.2
done
echo "$1 is not what there is:"; ip -6 addr show eth0; exit 1`;
/** A connection within the guest: it must not notice anything, wherever it goes on. */
const LOOPBACK = `
import os, socket, threading, time
server = socket.create_server(('127.0.0.1', 0))
def echo():
    peer, _ = server.accept()
    while True: peer.sendall(peer.recv(64))
threading.Thread(target=echo, daemon=True).start()
client = socket.create_connection(server.getsockname())
n = 0
while True:
    n += 1
    word = b'%08d' % n
    client.sendall(word)
    got = b''
    while len(got) < 8: got += client.recv(8 - len(got))
    assert got == word, (got, word)
    open('/dev/shm/loopback.new', 'w').write(str(n))
    os.rename('/dev/shm/loopback.new', '/dev/shm/loopback')
    if n == 3: open('/dev/shm/ready', 'w').close()
    time.sleep(0.1)
`;

describe('identity of copies', () => {
  let home: TestHome;
  let server: Server;
  let port = 0;
  before(async () => {
    home = TestHome.warm();
    await source(home, '--nat');
    server = createServer((socket) => socket.on('error', () => undefined).end('from the host\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as { port: number }).port;
  });
  after(async () => {
    server.close();
    await home[Symbol.asyncDispose]();
  });

  test('names, ids and addresses are their own, and what the host says they are', async () => {
    const sourceFacts = await facts(home, 'dev');
    const copies = await fork(home, 'dev', 3);
    const all = [await facts(home, 'dev')];
    assert.deepEqual(all[0], sourceFacts, 'the source has changed');
    for (const vm of copies) all.push(await facts(home, vm));
    for (const [index, [what]] of FACTS.entries()) {
      assertDistinct(
        all.map((of) => of[index] ?? ''),
        what,
      );
    }
    for (const vm of copies) {
      const { runtime, guestIp } = await home.show(vm);
      const [hostname, file, , bootId, , ipv4] = await facts(home, vm);
      assert.deepEqual([hostname, file, bootId, ipv4], [vm, vm, runtime.bootId, `${guestIp}/24`]);
      assert.match(await home.guest(vm, 'getent', 'hosts', vm), new RegExp(`^(${guestIp}|127\\.|::1)`));
    }
    // The one that the source made from its MAC goes a second later.
    for (const vm of ['dev', ...copies]) {
      const mac = await home.guest(vm, 'cat', '/sys/class/net/eth0/address');
      await home.ok(['vm', 'exec', vm, '--', 'sh', '-c', UNTIL_ONLY_LINK_LOCAL, 'sh', linkLocalOf(mac)]);
    }
    await drop(home, copies);
  });

  test('nothing of the source is left in the network of a copy: neighbours, routes', async () => {
    // The gateway answers: there is a neighbour to forget.
    await home.guest('dev', 'python3', '-c', connectTo(await gateway(home, 'dev'), port));
    assert.notEqual(await home.guest('dev', 'ip', 'neigh'), '');
    const { guestIp } = await home.show('dev');
    const subnet = guestIp.split('.').slice(0, 3).join('.');
    const [copy = ''] = await fork(home, 'dev', 1);
    const own = await home.guest(copy, 'sh', '-c', 'ip neigh; ip route; ip -4 addr show eth0');
    const ownSubnet = (await home.show(copy)).guestIp.split('.').slice(0, 3).join('.');
    if (ownSubnet !== subnet) assert.ok(!own.includes(`${subnet}.`), own);
    assert.ok(!own.includes(`${guestIp}/`), own);
    assert.doesNotMatch(await home.guest(copy, 'ip', 'neigh'), /REACHABLE|STALE|DELAY/);
    await drop(home, [copy]);
  });

  test('a VM with --nat reaches what its source reaches; one without still does not', async () => {
    const [open = ''] = await fork(home, 'dev', 1);
    for (const vm of ['dev', open]) {
      const script = connectTo(await gateway(home, vm), port);
      assert.equal(await home.guest(vm, 'python3', '-c', script), 'from the host');
    }
    await home.ok(['vm', 'create', '--name', 'closed', '--memory', '512M']);
    const [closed = ''] = await fork(home, 'closed', 1);
    const refused = await home.run([
      ...['vm', 'exec', closed, '--', 'python3', '-c'],
      connectTo(await gateway(home, closed), port),
    ]);
    assert.equal(refused.status, 1, refused.stdout.toString());
    await drop(home, [open, closed, 'closed']);
  });

  test('a connection within the guest goes on in the source, in copies, and in what is restored', async () => {
    await leaveRunning(home, 'dev', LOOPBACK);
    await snapshot(home, 'dev', 'then');
    const earlier = Number(await home.guest('dev', 'cat', '/dev/shm/loopback'));
    const copies = [...(await fork(home, 'dev', 2)), ...(await forkOf(home, 'then', 1))];
    await home.ok(['vm', 'snapshot', 'restore', 'then', '--force']);
    for (const vm of ['dev', ...copies]) {
      const script = `n=$(cat /dev/shm/loopback); sleep 1; echo $(($(cat /dev/shm/loopback) - n)); pgrep -c python3`;
      const [moved, running] = (await home.guest(vm, 'sh', '-c', script)).split('\n').map(Number);
      assert.ok((moved ?? 0) > 0 && running === 1, `${vm}: ${moved} in a second, from ${earlier}`);
    }
    await drop(home, copies);
  });

  test('what is kept of a VM that is gone makes a new one; names are what was asked for', async () => {
    await home.ok(['vm', 'create', '--name', 'gone', '--memory', '512M']);
    await snapshot(home, 'gone', 'left');
    await home.ok(['vm', 'delete', 'gone']);
    assert.match(await home.ok(['vm', 'snapshot', 'list']), /^left +[0-9a-f]{12} +\(gone\)/m);
    assert.equal(await home.ok(['vm', 'fork', '--snapshot', 'left', '--name', 'gone']), 'gone\n');
    assert.equal(await home.guest('gone', 'hostname'), 'gone');
    const refused = await home.run(['vm', 'snapshot', 'restore', 'left']);
    assert.match(
      refused.stderr,
      /^banger: the VM "gone" of that snapshot is gone\nbanger vm fork --snapshot left/,
    );
    const taken = await home.run(['vm', 'fork', 'dev', '--name', 'gone']);
    assert.match(taken.stderr, /^banger: VM name "gone" is taken/);
    await drop(home, ['gone']);
  });
});

async function facts(home: TestHome, vm: string): Promise<readonly string[]> {
  const script = FACTS.map(([, command]) => `echo "$(${command})"`).join('\n');
  const lines = (await home.guest(vm, 'sh', '-c', script)).split('\n');
  assert.equal(lines.length, FACTS.length, lines.join('\n'));
  return lines;
}

async function gateway(home: TestHome, vm: string): Promise<string> {
  return await home.guest(vm, 'sh', '-c', "ip route show default | awk '{print $3}'");
}

function connectTo(host: string, port: number): string {
  return `import socket; print(socket.create_connection(('${host}', ${port}), 10).recv(64).decode().strip())`;
}

/** Modified EUI-64: RFC 4291, appendix A. */
function linkLocalOf(mac: string): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const groups = [((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f];
  return `fe80::${groups.map((group) => group.toString(16)).join(':')}`;
}
