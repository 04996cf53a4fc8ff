/**
 * A VM's own address and its name: servers in it appear on this host by themselves, and programs find them by NAME.vm through
 * getaddrinfo, on a host that is set up as docs/names.md says.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { DoctorReport } from '../../src/api/results/doctor.ts';
import type { PortEntry } from '../../src/api/results/vm.ts';
import { NetworkNamespace, outcomeOf, whyNoNamespace } from '../helpers/network-namespace.ts';
import { BANGER, isAlive, ROOT, settled, TestHome } from '../helpers/test-home.ts';

const WEB = 8000;
const INNER = 8001;
const TAKEN = 8002;

/** A web server on one address that says on which port it is. */
const SERVER = `
use Socket;
my ($address, $port) = @ARGV;
socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
bind($s, sockaddr_in($port, inet_aton($address))) or die;
listen($s, 128) or die;
while (accept(my $c, $s)) {
  while (<$c>) { last if /^\\r?$/ }
  print $c "HTTP/1.0 200 OK\\r\\n\\r\\nport $port\\n";
  close $c;
}
`;

describe('names and addresses of VMs', () => {
  const skip = whyNoNamespace();
  let home: TestHome;
  /** Undefined: this host's own network has to do, and its resolver is left alone. */
  let network: NetworkNamespace | undefined;
  let address: string;
  const helpers: ChildProcess[] = [];
  before(async () => {
    home = TestHome.warm();
    network = skip === false ? await NetworkNamespace.make() : undefined;
    await startDaemon();
    await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M']);
    await home.ok(['vm', 'exec', 'dev', '--', 'sh', '-c', 'cat > /root/server.pl'], { input: SERVER });
    address = (await home.show('dev')).hostAddress ?? assert.fail('it has no address');
  });
  after(async () => {
    for (const helper of helpers) helper.kill();
    await home[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
  });

  function inside(...argv: readonly string[]): readonly [string, ...string[]] {
    return network?.inside(...argv) ?? (argv as readonly [string, ...string[]]);
  }

  /** A program of this host. */
  async function here(...argv: readonly string[]) {
    return await outcomeOf(inside(...argv), home.env);
  }

  async function startDaemon(): Promise<void> {
    const { status, stderr } = await here(BANGER, 'daemon', 'start');
    assert.equal(status, 0, stderr);
  }

  /** A program of this host that stays. */
  function start(...argv: readonly string[]): ChildProcess {
    const [program, ...args] = inside(...argv);
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    helpers.push(child);
    return child;
  }

  async function serve(port: number, on = '0.0.0.0'): Promise<void> {
    const script = `setsid perl /root/server.pl ${on} ${port} </dev/null >/dev/null 2>&1 &`;
    await home.guest('dev', 'sh', '-c', script);
  }

  async function endServer(port: number): Promise<void> {
    await home.guest('dev', 'pkill', '-f', `server.pl [0-9.]* ${port}`);
  }

  /** What curl gets, without asking any resolver; empty: nothing. */
  async function fetched(port: number): Promise<string> {
    const resolved = `dev.vm:${port}:${address}`;
    return (await here('curl', '-s', '--max-time', '20', '--resolve', resolved, `http://dev.vm:${port}/`))
      .stdout;
  }

  async function becomes(port: number, expected: string): Promise<void> {
    await settled(async () => (await fetched(port)) === expected);
    assert.equal(await fetched(port), expected);
  }

  async function listed(port: number): Promise<PortEntry | undefined> {
    const [ports] = await home.json<{ result: PortEntry[] }[]>(['vm', 'ports', 'dev']);
    return ports?.result.find((entry) => entry.port === port);
  }

  /** As the stock programs do: getaddrinfo, and nothing of banger's. */
  async function addressesOf(name: string): Promise<readonly string[]> {
    const { stdout } = await here('getent', 'ahosts', name);
    return [...new Set(stdout.split('\n').flatMap((line) => line.split(' ')[0] || []))];
  }

  async function assertFoundByName(): Promise<void> {
    assert.deepEqual(await addressesOf('dev.vm'), [address]);
    assert.deepEqual(await addressesOf('DEV.vm'), [address]);
    assert.deepEqual(await addressesOf('nobody.vm'), []);
    const { stdout, stderr } = await here('curl', '-sS', '--max-time', '20', `http://dev.vm:${WEB}/`);
    assert.equal(stdout, `port ${WEB}\n`, stderr);
    const report = JSON.parse((await here(BANGER, 'doctor', '--json')).stdout) as DoctorReport;
    const row = report.findings.find(({ id }) => id === 'daemon.names');
    assert.match(`${row?.severity}: ${row?.found}`, /^ok: this host looks them up/);
  }

  test('servers appear by themselves, those on loopback too, and go by themselves', async () => {
    await serve(WEB);
    await serve(INNER, '127.0.0.1');
    await becomes(WEB, `port ${WEB}\n`);
    await becomes(INNER, `port ${INNER}\n`);
    const { endpoint, forwarded, url } = (await listed(WEB)) ?? assert.fail('it is not listed');
    assert.deepEqual(
      { endpoint, forwarded, url },
      {
        ...{ endpoint: `dev.vm:${WEB}`, forwarded: `${address}:${WEB}` },
        url: `http://dev.vm:${WEB}/`,
      },
    );
    await endServer(INNER);
    await becomes(INNER, '');
    assert.ok((await home.ok(['vm', 'list'])).includes(address));
  });

  test('a port that another program of this host has is listed with the reason', async () => {
    const script = `require('net').createServer().listen(${TAKEN}, '0.0.0.0', () => console.log('up'))`;
    const other = start(process.execPath, '-e', script);
    await once(other.stdout ?? assert.fail(), 'data');
    await serve(TAKEN);
    await settled(async () => (await listed(TAKEN)) !== undefined);
    const { forwarded, problem } = (await listed(TAKEN)) ?? assert.fail('it is not listed');
    assert.deepEqual([forwarded, problem], [null, 'another program has that port of this host']);
    other.kill();
    await once(other, 'exit');
    assert.equal((await listed(TAKEN))?.forwarded, `${address}:${TAKEN}`);
    assert.equal(await fetched(TAKEN), `port ${TAKEN}\n`);
  });

  test('by name through dnsmasq, set up as the page says', { skip }, async () => {
    const page = readFileSync(join(ROOT, 'docs', 'names.md'), 'utf8');
    const line = /^echo '(server=[^']*)' \| sudo tee \/etc\/dnsmasq\.d/m.exec(page)?.[1];
    const settings = join(home.dir, 'dnsmasq.conf');
    writeFileSync(settings, `${line ?? assert.fail('the page has no such line')}\n`);
    const own = [
      '--no-resolv',
      '--no-hosts',
      '--listen-address=127.0.0.1',
      '--bind-interfaces',
      '--user=root',
    ];
    const dnsmasq = start('dnsmasq', '--keep-in-foreground', '--pid-file', `--conf-file=${settings}`, ...own);
    network?.setResolver('nameserver 127.0.0.1');
    await settled(async () => (await addressesOf('dev.vm')).length > 0);
    await assertFoundByName();
    dnsmasq.kill();
    await once(dnsmasq, 'exit');
  });

  test('kill -9 of the daemon: the next one has the ports at once, and the names, here on port 53', {
    skip,
  }, async () => {
    const daemon = await home.daemonPid();
    process.kill(daemon, 'SIGKILL');
    await settled(() => !isAlive(daemon));
    assert.equal(await fetched(WEB), '');
    const settings = join(home.dir, 'config', 'config.toml');
    writeFileSync(settings, `${readFileSync(settings, 'utf8')}[dns]\nlisten = "127.0.0.1:53"\n`);
    await startDaemon();
    assert.equal(await fetched(WEB), `port ${WEB}\n`);
    await assertFoundByName();
  });

  test('a saved VM keeps its ports and its name, and who comes waits for it', async () => {
    await home.ok(['vm', 'pause', '--save', 'dev']);
    const waiting = fetched(WEB);
    if (skip === false) assert.deepEqual(await addressesOf('dev.vm'), [address]);
    await home.ok(['vm', 'resume', 'dev']);
    assert.equal(await waiting, `port ${WEB}\n`);
  });

  test('a stopped one has neither', async () => {
    await home.ok(['vm', 'stop', 'dev']);
    assert.equal(await fetched(WEB), '');
    if (skip === false) assert.deepEqual(await addressesOf('dev.vm'), []);
    assert.equal((await home.show('dev')).hostAddress, address);
  });
});
