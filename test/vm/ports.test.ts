/** Published ports: a VM's servers answer on this host, through pauses and daemons that die, without a network of the guest's. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PortEntry } from '../../src/api/results/vm.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

const MIB = 1024 * 1024;
const BULK_MIB = 32;
const ECHO = 8001;
const DIGEST = 8002;
const BULK = 8003;
const NOBODY = 8004;

/** As inetd: each connection is the stdin and stdout of a program of its own. */
const INETD = `
use Socket;
my $port = shift;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
bind($s, sockaddr_in($port, INADDR_ANY)) or die;
listen($s, 128) or die;
$SIG{CHLD} = 'IGNORE';
while (accept(my $c, $s)) {
  if (!fork) { open(STDIN, '<&', $c); open(STDOUT, '>&', $c); close $c; close $s; exec @ARGV }
  close $c;
}
`;

describe('published ports', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    const publish = [ECHO, DIGEST, BULK, NOBODY].flatMap((port) => ['-p', `0:${port}`]);
    await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M', ...publish]);
    await home.ok(['vm', 'exec', 'dev', '--', 'sh', '-c', 'cat > /root/inetd.pl'], { input: INETD });
    const bulk = `head -c ${BULK_MIB}M /dev/urandom > /root/bulk`;
    await home.guest('dev', 'sh', '-c', bulk);
    await serve();
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  async function serveOne(port: number, program: string): Promise<void> {
    const script = `setsid perl /root/inetd.pl ${port} ${program} </dev/null >/dev/null 2>&1 &`;
    await home.guest('dev', 'sh', '-c', script);
  }

  async function serve(): Promise<void> {
    await serveOne(ECHO, 'cat');
    await serveOne(DIGEST, 'sha256sum');
    await serveOne(BULK, 'cat /root/bulk');
    for (const port of [ECHO, DIGEST, BULK])
      await settled(async () => (await listed(port))?.address === '0.0.0.0');
  }

  async function listed(port: number): Promise<PortEntry | undefined> {
    const [ports] = await home.json<{ result: PortEntry[] }[]>(['vm', 'ports', 'dev']);
    return ports?.result.find((entry) => entry.port === port);
  }

  /** The number on this host. */
  async function hostPort(guestPort: number): Promise<number> {
    const { published } = (await home.show('dev')).runtime;
    return (
      published?.find((port) => port.guestPort === guestPort)?.hostPort ?? assert.fail('it is not published')
    );
  }

  async function open(guestPort: number): Promise<Socket> {
    return connect({ port: await hostPort(guestPort), host: '127.0.0.1', allowHalfOpen: true });
  }

  /** Sends all and its end, and reads to the end. */
  async function ask(guestPort: number, question: Uint8Array | string): Promise<Buffer> {
    const socket = await open(guestPort);
    const answer = contentOf(socket);
    socket.end(question);
    return await answer;
  }

  test('many connections at once, each with its own answer after the end of its question', async () => {
    const answers = Array.from({ length: 20 }, async (_, index) => {
      assert.equal(String(await ask(ECHO, `question ${index}`)), `question ${index}`);
    });
    await Promise.all(answers);
  });

  test(`${BULK_MIB} MiB in, out, and both ways at once`, async () => {
    const bytes = randomBytes(BULK_MIB * MIB + 1);
    assert.equal(String(await ask(DIGEST, bytes)), `${sha256(bytes)}  -\n`);
    const expected = await home.guest('dev', 'sha256sum', '/root/bulk');
    assert.equal(`${sha256(await ask(BULK, ''))}  /root/bulk`, expected);
    assert.equal(sha256(await ask(ECHO, bytes)), sha256(bytes));
  });

  test('what is published is shown, served or not', async () => {
    const [echo, nobody] = [await listed(ECHO), await listed(NOBODY)];
    assert.deepEqual(echo?.published, [`127.0.0.1:${await hostPort(ECHO)}`]);
    assert.deepEqual([nobody?.address, nobody?.published], [null, [`127.0.0.1:${await hostPort(NOBODY)}`]]);
    const expected = `${await hostPort(ECHO)}->${ECHO},`;
    assert.ok((await home.ok(['vm', 'list'])).includes(expected));
  });

  test('a port nobody serves is reset, until somebody does', async () => {
    await assert.rejects(ask(NOBODY, 'anybody?'), { code: 'ECONNRESET' });
    await serveOne(NOBODY, 'cat');
    await settled(async () => (await listed(NOBODY))?.address === '0.0.0.0');
    assert.equal(String(await ask(NOBODY, 'anybody?')), 'anybody?');
  });

  test('a port that is taken refuses the start, before there is anything of the VM', async () => {
    const taken = await hostPort(ECHO);
    const byVm = await home.run(['vm', 'create', '--name', 'other', '-p', `${taken}:1`]);
    assert.equal(byVm.status, 1);
    const message = `banger: 127.0.0.1:${taken} cannot be published: VM "dev" has that port\n`;
    assert.ok(byVm.stderr.includes(message), byVm.stderr);
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const byOther = await home.run(['vm', 'create', '--name', 'other', '-p', `${port}:1`]);
    assert.match(byOther.stderr, /another program has that port/);
    server.close();
    assert.deepEqual(
      (await home.vms()).map(({ name }) => name),
      ['dev'],
    );
  });

  test('paused in the middle of a transfer: a delay, no error; who comes meanwhile waits', async () => {
    const before = await open(DIGEST);
    const answer = contentOf(before);
    const half = randomBytes(BULK_MIB * MIB);
    before.write(half);
    await settled(() => before.bytesWritten - before.writableLength > 4 * MIB);
    await home.ok(['vm', 'pause', 'dev']);
    before.end(half);
    const meanwhile = ask(ECHO, 'are you there?');
    let isOver = false;
    void Promise.race([answer, meanwhile]).then(() => {
      isOver = true;
    });
    await sleep(2000);
    assert.equal(isOver, false);
    await home.ok(['vm', 'resume', 'dev']);
    assert.equal(String(await meanwhile), 'are you there?');
    const expected = createHash('sha256').update(half).update(half).digest('hex');
    assert.equal(String(await answer), `${expected}  -\n`);
  });

  test('kill -9 of the daemon: connections are lost, the ports come back with the next one, the same ones', async () => {
    const port = await hostPort(ECHO);
    const socket = await open(ECHO);
    socket.write('x');
    await once(socket, 'data');
    const daemon = await home.daemonPid();
    const lost = contentOf(socket).then(
      () => 'ended',
      () => 'reset',
    );
    process.kill(daemon, 'SIGKILL');
    await lost;
    // The last of its threads holds its sockets a moment longer than it is seen to live.
    await settled(async () => !isAlive(daemon) && (await codeOf(port)) === 'ECONNREFUSED');
    assert.equal(await codeOf(port), 'ECONNREFUSED');
    assert.equal(await hostPort(ECHO), port);
    assert.equal(String(await ask(ECHO, 'again')), 'again');
  });

  test('stop closes the ports, start opens the same ones, and a QEMU that dies leaves none open', async () => {
    const port = await hostPort(ECHO);
    await home.ok(['vm', 'stop', 'dev']);
    assert.equal(await codeOf(port), 'ECONNREFUSED');
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await hostPort(ECHO), port);
    await serve();
    assert.equal(String(await ask(ECHO, 'after the start')), 'after the start');
    process.kill((await home.show('dev')).pid ?? assert.fail('it has no pid'), 'SIGKILL');
    await settled(async () => (await home.show('dev')).state === 'error');
    assert.equal(await codeOf(port), 'ECONNREFUSED');
  });
});

async function contentOf(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  socket.once('end', () => resolve(Buffer.concat(chunks))).once('error', reject);
  return await promise.finally(() => socket.destroy());
}

/** Why a connection cannot be made; empty when it can. */
async function codeOf(port: number): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  const { promise, resolve } = Promise.withResolvers<string>();
  socket
    .once('connect', () => resolve(''))
    .once('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? ''));
  return await promise.finally(() => socket.destroy());
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
