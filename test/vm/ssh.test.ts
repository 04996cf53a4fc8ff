/** The stock clients, with a VM that has no network and in which nothing listens: ssh, scp, sftp, rsync, git. */

import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type RunOutcome, settled, TestHome } from '../helpers/test-home.ts';

const BEFORE = 'Host other\n\tPort 2200\r\n# no end of line';
const LIMIT_MS = 60_000;

describe('ssh', () => {
  let home: TestHome;
  /** In the place of ~/.ssh/config: ssh and banger are told of it. */
  let config: string;
  let dir: string;
  let options: readonly string[];

  before(async () => {
    home = TestHome.warm();
    config = join(home.dir, 'user', '.ssh', 'config');
    dir = join(home.dir, 'files');
    mkdirSync(dirname(config), { recursive: true });
    mkdirSync(dir);
    writeFileSync(config, BEFORE, { mode: 0o600 });
    options = ['-F', config, '-o', 'BatchMode=yes'];
    await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M']);
    await home.ok(['ssh-config', '--install', '--file', config]);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  interface Settings {
    readonly input?: string | Uint8Array;
    readonly env?: Readonly<Record<string, string>>;
  }

  /** A program of this host, by itself. */
  async function run(argv: readonly string[], { input, env }: Settings = {}): Promise<RunOutcome> {
    const [program = '', ...args] = argv;
    const child = spawn(program, args, { cwd: dir, env: { ...home.env, ...env }, timeout: LIMIT_MS });
    const stdout: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    return await new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) =>
        resolve({ status, signal, stdout: Buffer.concat(stdout), stderr }),
      );
    });
  }

  async function ok(argv: readonly string[], settings: Settings = {}): Promise<string> {
    const { status, stdout, stderr } = await run(argv, settings);
    assert.deepEqual([status, stderr], [0, ''], argv.join(' '));
    return stdout.toString();
  }

  const ssh = (...args: readonly string[]): readonly string[] => ['ssh', ...options, ...args];

  function pinned(): ReadonlyMap<string, string> {
    const lines = readFileSync(join(home.dir, 'state', 'ssh', 'known_hosts'), 'utf8')
      .trim()
      .split('\n');
    return new Map(lines.map((line) => [line.split(',')[0] ?? '', line.split(' ')[2] ?? '']));
  }

  /** One that has begun: its command says so. */
  async function session(command: string): Promise<ChildProcessWithoutNullStreams> {
    const child = spawn('ssh', [...options, 'dev.vm', command], { env: home.env, timeout: LIMIT_MS });
    await once(child.stdout, 'data');
    return child;
  }

  /** Processes of sshd in a guest. */
  async function servers(vm: string): Promise<string> {
    return await home.guest(vm, 'sh', '-c', 'ps -eo args | grep -c "[s]shd"; true');
  }

  /** Processes of connections to VMs, on this host. */
  const proxies = (): readonly unknown[] =>
    home.processes().filter(({ command }) => command.includes('ssh-proxy'));

  test('a command: its bytes, both outputs, its status; and a terminal', async () => {
    const bytes = randomBytes(200_000);
    const command = 'cat; echo "$LANG $(id -un)" >&2; exit 7';
    const { status, stdout, stderr } = await run(ssh('dev.vm', command), { input: bytes });
    assert.deepEqual([status, stderr], [7, 'C.UTF-8 root\n']);
    assert.ok(stdout.equals(bytes));
    assert.match(await ok(ssh('-tt', 'dev.vm', 'tty; stty size')), /^\/dev\/pts\/\d+\r\n/);
    assert.equal(pinned().size, 1);
  });

  test('vm ssh needs no set-up, takes the beginning of a name, and exits as ssh does', async () => {
    const args = ['vm', 'ssh', 'de', '--', '-o', 'BatchMode=yes', 'tr a-z A-Z; exit 9'];
    const { status, stdout, stderr } = await home.run(args, { input: 'typed' });
    assert.deepEqual([status, stdout.toString(), stderr], [9, 'TYPED', '']);
    const unknown = await home.run(['vm', 'ssh', 'nope']);
    assert.equal(unknown.status, 125);
  });

  test('scp, by both protocols, and sftp', async () => {
    const bytes = randomBytes(300_000);
    writeFileSync(join(dir, 'a file'), bytes);
    chmodSync(join(dir, 'a file'), 0o640);
    for (const protocol of ['-s', '-O']) {
      await ok(['scp', '-q', '-p', protocol, ...options, 'a file', 'dev.vm:there']);
      await ok(['scp', '-q', '-p', protocol, ...options, 'dev.vm:there', `back${protocol}`]);
      assert.ok(readFileSync(join(dir, `back${protocol}`)).equals(bytes), protocol);
      assert.equal(statSync(join(dir, `back${protocol}`)).mode & 0o777, 0o640);
    }
    await run(['sftp', '-q', '-b', '-', ...options, 'dev.vm'], { input: 'get there sftped\nrm there\n' });
    assert.ok(readFileSync(join(dir, 'sftped')).equals(bytes));
  });

  test('rsync, there and back', async () => {
    mkdirSync(join(dir, 'tree', 'sub'), { recursive: true });
    writeFileSync(join(dir, 'tree', 'sub', 'näme'), 'one');
    symlinkSync('sub/näme', join(dir, 'tree', 'link'));
    const rsync = ['rsync', '-a', '--delete', '-e', ['ssh', ...options].join(' ')];
    await ok([...rsync, 'tree/', 'dev.vm:tree/']);
    await home.guest('dev', 'sh', '-c', 'cd /root/tree && cat link && printf two > sub/new && rm link');
    await ok([...rsync, 'dev.vm:tree/', 'tree/']);
    assert.equal(readFileSync(join(dir, 'tree', 'sub', 'new'), 'utf8'), 'two');
    assert.equal(existsSync(join(dir, 'tree', 'link')), false);
  });

  test('git clones a repository of the guest, and pushes back into it', async () => {
    const make =
      'git init -q -b main /root/repo && cd /root/repo && git config receive.denyCurrentBranch updateInstead && ' +
      'echo one > file && git add . && git -c user.name=g -c user.email=g@x commit -qm one';
    await home.guest('dev', 'sh', '-c', make);
    const env = {
      GIT_SSH_COMMAND: ['ssh', ...options].join(' '),
      GIT_CONFIG_GLOBAL: '/dev/null',
      ...{
        GIT_AUTHOR_NAME: 'h',
        GIT_AUTHOR_EMAIL: 'h@x',
        GIT_COMMITTER_NAME: 'h',
        GIT_COMMITTER_EMAIL: 'h@x',
      },
    };
    await ok(['git', 'clone', '-q', 'ssh://dev.vm/root/repo'], { env });
    assert.equal(readFileSync(join(dir, 'repo', 'file'), 'utf8'), 'one\n');
    writeFileSync(join(dir, 'repo', 'file'), 'two\n');
    await ok(['git', '-C', 'repo', 'commit', '-qam', 'two'], { env });
    await ok(['git', '-C', 'repo', 'push', '-q'], { env });
    assert.equal(await home.guest('dev', 'cat', '/root/repo/file'), 'two');
  });

  test('ports of the guest are reached; the agent is forwarded only when asked for; nothing listens', async () => {
    const serve =
      'use Socket; socket($s, 2, 1, 0); bind($s, sockaddr_in(8001, INADDR_LOOPBACK)); listen($s, 1); ' +
      'accept($c, $s); syswrite($c, "hello\\n")';
    await home.guest('dev', 'sh', '-c', `setsid perl -e '${serve}' >/dev/null 2>&1 </dev/null &`);
    await settled(async () => (await home.ok(['vm', 'ports', 'dev'])).includes('8001'));
    assert.equal(await ok(ssh('-W', '127.0.0.1:8001', 'dev.vm')), 'hello\n');
    assert.doesNotMatch(await home.ok(['vm', 'ports', 'dev']), /sshd/);
    const env = { SSH_AUTH_SOCK: join(dir, 'agent') };
    const agent = spawn('ssh-agent', ['-D', '-a', env.SSH_AUTH_SOCK], { stdio: 'ignore' });
    try {
      await settled(() => existsSync(env.SSH_AUTH_SOCK));
      assert.equal(await ok(ssh('dev.vm', 'echo "[$SSH_AUTH_SOCK]"'), { env }), '[]\n');
      assert.match(await ok(ssh('-A', 'dev.vm', 'ssh-add -l || [ $? = 1 ]'), { env }), /no identities/);
    } finally {
      agent.kill();
    }
  });

  test('a fork has a host key of its own, and the source keeps its', async () => {
    const source = pinned().get('dev.vm');
    const held = await session('echo up; cat');
    await home.ok(['vm', 'fork', 'dev', '--name', 'copy']);
    await settled(async () => (await servers('copy')) === '0');
    assert.equal(await servers('copy'), '0');
    // The source's session has not noticed.
    held.stdin.end('still there');
    assert.equal(String((await once(held.stdout, 'data'))[0]), 'still there');
    assert.equal(await ok(ssh('copy.vm', 'hostname')), 'copy\n');
    assert.equal(await ok(ssh('dev.vm', 'hostname')), 'dev\n');
    const keys = pinned();
    assert.equal(keys.get('dev.vm'), source);
    assert.notEqual(keys.get('copy.vm'), source);
    const inGuest = await home.guest('copy', 'ssh-keygen', '-y', '-f', '/run/banger-ssh/host_key');
    assert.equal(inGuest.split(' ')[1], keys.get('copy.vm'));
  });

  test('a name that is used again is known by the key of the VM that has it now', async () => {
    const first = pinned().get('copy.vm');
    await home.ok(['vm', 'delete', 'copy']);
    assert.equal(pinned().has('copy.vm'), false);
    await home.ok(['vm', 'fork', 'dev', '--name', 'copy']);
    assert.equal(await ok(ssh('copy.vm', 'hostname')), 'copy\n');
    assert.notEqual(pinned().get('copy.vm'), first);
    await home.ok(['vm', 'delete', 'copy']);
  });

  test('a guest without sshd is told from one that cannot be reached', async () => {
    await home.guest('dev', 'mv', '/usr/sbin/sshd', '/usr/sbin/sshd.away');
    const without = await run(ssh('dev.vm', 'true'));
    await home.guest('dev', 'mv', '/usr/sbin/sshd.away', '/usr/sbin/sshd');
    assert.equal(without.status, 255);
    assert.match(without.stderr, /VM "dev" has no ssh server in its image.*\n.*openssh-server/);
    const unknown = await run(ssh('de.vm', 'true'));
    assert.match(unknown.stderr, /no VM is called "de"/);
  });

  test('a client that is killed, and a VM that is stopped, leave nothing', async () => {
    const killed = await session('echo up; cat');
    assert.equal(proxies().length, 1);
    killed.kill('SIGKILL');
    await settled(() => proxies().length === 0);
    assert.deepEqual(proxies(), []);
    await settled(async () => (await servers('dev')) === '0');
    assert.equal(await servers('dev'), '0');

    const stopped = await session('echo up; sleep 1000');
    const end = once(stopped, 'exit');
    await home.ok(['vm', 'stop', 'dev']);
    assert.deepEqual(await end, [255, null]);
    await settled(() => proxies().length === 0);
    assert.deepEqual(proxies(), []);
    const { stderr } = await run(ssh('dev.vm', 'true'));
    assert.match(stderr, /it is stopped\nbanger vm start dev\n/);
  });

  test('a VM that sleeps wakes, and a new boot has the same key', async () => {
    const before = pinned().get('dev.vm');
    const settings = join(home.dir, 'config', 'config.toml');
    const text = readFileSync(settings, 'utf8');
    writeFileSync(settings, text.replace('[vm_defaults]', '[idle]\npause_after = "1s"\n[vm_defaults]'));
    await home.ok(['daemon', 'stop']);
    await home.ok(['vm', 'start', 'dev']);
    const isPaused = async (): Promise<boolean> => (await home.vms())[0]?.state === 'paused';
    await settled(isPaused);
    assert.ok(await isPaused());
    assert.equal(await ok(ssh('dev.vm', 'hostname')), 'dev\n');
    assert.equal(pinned().get('dev.vm'), before);
  });

  test('what was in the file is there again', async () => {
    await home.ok(['ssh-config', '--install', '--file', config]);
    assert.ok(readFileSync(config, 'utf8').endsWith(`<<< banger\n${BEFORE}`));
    await home.ok(['ssh-config', '--uninstall', '--file', config]);
    assert.equal(readFileSync(config, 'utf8'), BEFORE);
    rmSync(config);
    await home.ok(['ssh-config', '--install', '--file', config]);
    assert.equal(statSync(config).mode & 0o777, 0o600);
    await home.ok(['ssh-config', '--uninstall', '--file', config]);
    assert.equal(existsSync(config), false);
  });
});
