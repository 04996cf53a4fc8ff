/** VMs that nobody uses stand still, then cost no memory; whoever uses one finds it as it was. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmState } from '../../src/core/model/vm.ts';
import { isAlive, type Running, settled, TestHome } from '../helpers/test-home.ts';

const ECHO = 8001;
/** Long enough for a VM to have gone to sleep several times over, if it were to. */
const AWAKE_MS = 6000;
const ASLEEP_TIMEOUT_MS = 60_000;
const CLOCK_PAUSE_MS = 3000;
const CLOCK_BOUND_MS = 100;

/** As inetd with cat: each connection has a child of its own. */
const SERVER = `
use Socket;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
bind($s, sockaddr_in(${ECHO}, INADDR_ANY)) or die;
listen($s, 128) or die;
$SIG{CHLD} = 'IGNORE';
while (accept(my $c, $s)) {
  if (!fork) { open(STDIN, '<&', $c); open(STDOUT, '>&', $c); close $c; close $s; exec 'cat' }
  close $c;
}
`;

/** A home whose VM "dev" goes to sleep as the table says. */
async function homeWith(idle: string): Promise<TestHome> {
  const home = TestHome.warm(`[idle]\n${idle}\n`);
  await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M', '-p', `0:${ECHO}`]);
  await home.ok(['vm', 'exec', 'dev', '--', 'sh', '-c', 'cat > /root/server.pl'], { input: SERVER });
  await inBackground(home, 'perl /root/server.pl');
  await settled(async () => (await home.guest('dev', 'cat', '/proc/net/tcp')).includes(':1F41 '));
  return home;
}

async function inBackground(home: TestHome, command: string): Promise<void> {
  await home.guest('dev', 'sh', '-c', `setsid ${command} </dev/null >/dev/null 2>&1 &`);
}

async function falls(home: TestHome, state: VmState): Promise<void> {
  const is = async (): Promise<VmState> => (await home.show('dev')).state;
  await settled(async () => (await is()) === state, ASLEEP_TIMEOUT_MS);
  assert.equal(await is(), state);
}

async function staysAwake(home: TestHome): Promise<void> {
  const end = Date.now() + AWAKE_MS;
  while (Date.now() < end) {
    assert.equal((await home.show('dev')).state, 'running');
    await sleep(200);
  }
}

async function dial(home: TestHome): Promise<Socket> {
  const { published } = (await home.show('dev')).runtime;
  const socket = connect({ port: published?.[0]?.hostPort ?? assert.fail('no port'), host: '127.0.0.1' });
  await once(socket, 'connect');
  return socket;
}

/** What `vm list` says while a connection is talked through, which keeps the VM awake, however long that takes. */
async function listWhileAsking(home: TestHome, socket: Socket): Promise<string> {
  const list = home.start(['vm', 'list']);
  while (list.child.exitCode === null) await ask(socket, 'more\n');
  return (await list.done).stdout.toString();
}

/** The same while a command is under way. */
async function listWhileRunning(home: TestHome): Promise<string> {
  const command = await underWay(home);
  const list = await home.ok(['vm', 'list']);
  command.child.stdin.end();
  await command.done;
  return list;
}

/** A command that has begun, and lasts until its stdin ends. */
async function underWay(home: TestHome): Promise<Running> {
  const command = home.start(['vm', 'exec', 'dev', '--', 'cat'], { keepInput: true });
  command.child.stdin.write('begun\n');
  await settled(() => command.stdout() === 'begun\n');
  return command;
}

/** Sends a line and waits for it to come back. */
async function ask(socket: Socket, line: string): Promise<void> {
  socket.write(line);
  let answer = '';
  while (answer.length < line.length) {
    const [chunk] = (await once(socket, 'data', { signal: AbortSignal.timeout(60_000) })) as [Buffer];
    answer += String(chunk);
  }
  assert.equal(answer, line);
}

/** What a VM has beside its disk: a program, and a file without a name that it has open. */
async function startWitness(home: TestHome): Promise<string> {
  await home.guest('dev', 'sh', '-c', 'echo on disk > /root/file; sync; echo in memory > /dev/shm/file');
  const program = "sh -c 'exec 3<>/root/nameless; echo nameless >&3; rm /root/nameless; exec sleep 100000'";
  await inBackground(home, program);
  await settled(async () => (await witness(home)).includes('nameless'));
  return await witness(home);
}

async function witness(home: TestHome): Promise<string> {
  const script =
    'pid=$(pgrep -x sleep); echo $pid; cat /proc/$pid/fd/3 /root/file /dev/shm/file /proc/sys/kernel/random/boot_id';
  return (await home.run(['vm', 'exec', 'dev', '--', 'sh', '-c', script])).stdout.toString();
}

async function assertClock(home: TestHome): Promise<void> {
  const earliest = Date.now();
  const guest = Number(await home.guest('dev', 'date', '+%s%3N'));
  const latest = Date.now();
  assert.ok(guest >= earliest - CLOCK_BOUND_MS, `${earliest - guest} ms behind`);
  assert.ok(guest <= latest + CLOCK_BOUND_MS, `${guest - latest} ms ahead`);
}

describe('VMs that are paused when idle', () => {
  let home: TestHome;
  before(async () => {
    home = await homeWith('pause_after = "1s"');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('a command wakes it, finds it as it was, with the right time', async () => {
    const before = await startWitness(home);
    await falls(home, 'paused');
    const { pid } = await home.show('dev');
    assert.match(await home.ok(['vm', 'list']), / paused \(idle\) /);
    await sleep(CLOCK_PAUSE_MS);
    await assertClock(home);
    assert.match(await listWhileRunning(home), / running \(woken by exec\) /);
    assert.equal(await witness(home), before);
    assert.equal((await home.show('dev')).pid, pid);
  });

  test('looking at it does not wake it', async () => {
    await falls(home, 'paused');
    for (const word of ['show', 'stats', 'logs']) await home.ok(['vm', word, 'dev']);
    assert.equal((await home.show('dev')).state, 'paused');
  });

  test('one that its user paused is not woken, and says how it is', async () => {
    await falls(home, 'paused');
    await home.ok(['vm', 'pause', 'dev']);
    const { status, stderr } = await home.run(['vm', 'exec', 'dev', '--', 'true']);
    assert.deepEqual(
      [
        status,
        stderr.startsWith('banger: cannot run anything in VM "dev": it is paused\nbanger vm resume dev\n'),
      ],
      [125, true],
    );
    await home.ok(['vm', 'resume', 'dev']);
  });

  test('bytes through a connection that was there before wake it', async () => {
    const socket = await dial(home);
    await ask(socket, 'before\n');
    await falls(home, 'paused');
    await ask(socket, 'after\n');
    assert.match(await listWhileAsking(home, socket), / running \(woken by tcp\) /);
    await falls(home, 'paused');
    // So does its end, which the server is told of.
    socket.end();
    await settled(async () => (await home.show('dev')).state === 'running');
    await settled(() => socket.destroyed);
    assert.ok(socket.destroyed);
  });

  test('a command under way, work and leases keep it awake', async () => {
    const command = await underWay(home);
    await staysAwake(home);
    command.child.stdin.end();
    await command.done;
    await falls(home, 'paused');

    await inBackground(home, "sh -c 'echo > /run/banger-leases/$$; exec sleep 54321'");
    await settled(async () => (await home.guest('dev', 'ls', '/run/banger-leases')) !== '');
    await staysAwake(home);
    await home.guest('dev', 'pkill', '-f', 'sleep 54321');
    await falls(home, 'paused');

    await home.guest('dev', 'su', 'nobody', '-s', '/bin/sh', '-c', 'echo > /run/banger-leases/backup');
    await staysAwake(home);
    await home.guest('dev', 'rm', '/run/banger-leases/backup');
    await falls(home, 'paused');

    await inBackground(home, "sh -c 'while :; do :; done'");
    await staysAwake(home);
    await home.guest('dev', 'pkill', '-f', 'while :');
    await falls(home, 'paused');
  });
});

describe('VMs that are saved when idle', () => {
  let home: TestHome;
  before(async () => {
    home = await homeWith('pause_after = "0s"\nsave_after = "1s"');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('it has no process then; a command wakes it, finds it as it was, with the right time', async () => {
    const before = await startWitness(home);
    const { pid } = await home.show('dev');
    await falls(home, 'saved');
    assert.ok(!isAlive(pid));
    assert.match(await home.ok(['vm', 'list']), / saved \(idle\) /);
    await home.ok(['vm', 'stats', 'dev']);
    await home.ok(['vm', 'logs', 'dev']);
    assert.equal((await home.show('dev')).state, 'saved');
    await sleep(CLOCK_PAUSE_MS);
    await assertClock(home);
    assert.match(await listWhileRunning(home), / running \(woken by exec\) /);
    assert.equal(await witness(home), before);
  });

  test('connections that are open hold that off; new ones wait and are answered, however many', async () => {
    const socket = await dial(home);
    await ask(socket, 'open\n');
    await staysAwake(home);
    socket.destroy();
    await falls(home, 'saved');
    const sockets = await Promise.all(Array.from({ length: 8 }, () => dial(home)));
    await Promise.all(sockets.map((one, index) => ask(one, `question ${index}\n`)));
    assert.match(await home.ok(['vm', 'list']), / running \(woken by tcp\) /);
    for (const one of sockets) one.destroy();
  });

  test('kill -9 of the daemon while it is saved: the next one has its port open, and wakes it', async () => {
    const before = await witness(home);
    await falls(home, 'saved');
    const daemon = await home.daemonPid();
    process.kill(daemon, 'SIGKILL');
    await settled(() => !isAlive(daemon));
    assert.equal((await home.show('dev')).state, 'saved');
    assert.notEqual(await home.daemonPid(), daemon);
    const socket = await dial(home);
    await ask(socket, 'still there\n');
    socket.destroy();
    assert.equal(await witness(home), before);
  });

  test('a stop writes what is only in memory to the disk', async () => {
    await home.guest('dev', 'sh', '-c', 'echo not synced > /root/late');
    await falls(home, 'saved');
    await home.ok(['vm', 'stop', 'dev']);
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/late'), 'not synced');
  });

  test('deleting one leaves nothing', async () => {
    await falls(home, 'saved');
    await home.ok(['vm', 'delete', 'dev']);
    await home.assertNothingLeft();
  });
});
