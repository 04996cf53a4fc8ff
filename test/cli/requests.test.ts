import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DaemonStatus } from '../../src/api/results/daemon.ts';
import type { Method } from '../../src/api/contract.ts';
import { type Leaf, isGroup, root } from '../../src/cli/tree.ts';
import { type Answers, fakeCli } from './fake-cli.ts';

const at = (hostAddress: string, hostPort: number, guestPort: number) => ({
  hostAddress,
  hostPort,
  guestPort,
});

/** Command lines and the first request each makes. A command that makes none is covered elsewhere. */
const REQUESTS: readonly (readonly [line: string, method: Method, params: unknown])[] = [
  ['vm run', 'vm.create', {}],
  ['vm run --rm', 'vm.create', { ephemeral: true }],
  ['vm run . -- make', 'vm.create', { workspace: { path: '/home/dev/project' }, bootstrap: true }],
  [
    'vm run sub/dir --branch b --from v1',
    'vm.create',
    {
      workspace: { path: '/home/dev/project/sub/dir', branch: 'b', from: 'v1' },
      bootstrap: true,
    },
  ],
  [
    'vm run /abs --include-untracked',
    'vm.create',
    { workspace: { path: '/abs', includeUntracked: true }, bootstrap: true },
  ],
  ['vm run . --dry-run', 'workspace.plan', { path: '/home/dev/project' }],
  ['vm run --no-bootstrap -d', 'vm.create', {}],
  [
    'vm create --name dev --image i --vcpu 2 --memory 4G --disk-size 10GiB --nat --init systemd --accel tcg',
    'vm.create',
    {
      name: 'dev',
      image: 'i',
      vcpus: 2,
      memoryMib: 4096,
      diskSizeBytes: 10 * 1024 ** 3,
      nat: true,
      init: 'systemd',
      accel: 'tcg',
    },
  ],
  [
    'vm create --publish 8080 -p 0:80 -p [::1]:1:2',
    'vm.create',
    { publish: [at('127.0.0.1', 8080, 8080), at('127.0.0.1', 0, 80), at('::1', 1, 2)] },
  ],
  ['vm run -d -p 9:9', 'vm.create', { publish: [at('127.0.0.1', 9, 9)] }],
  ['vm create --memory=512 --no-start', 'vm.create', { memoryMib: 512, start: false }],
  ['vm start a', 'vm.start', { ref: 'a' }],
  ['vm stop a', 'vm.stop', { ref: 'a' }],
  ['vm restart a', 'vm.restart', { ref: 'a' }],
  ['vm pause a', 'vm.pause', { ref: 'a' }],
  ['vm pause a --save', 'vm.pause', { ref: 'a', save: true }],
  ['vm fork a --count 3 --name try', 'vm.fork', { ref: 'a', count: 3, name: 'try' }],
  ['vm fork --snapshot s', 'vm.fork', { snapshot: 's' }],
  ['vm workspace export a --stat', 'workspace.export', { ref: 'a', sincePrepare: false }],
  [
    'vm workspace export a -o p.diff --since-prepare',
    'workspace.export',
    { ref: 'a', sincePrepare: true, output: '/home/dev/project/p.diff', mode: 0o644, force: false },
  ],
  ['vm workspace export a --base-commit HEAD', 'snapshot.stream', {}],
  [
    'vm workspace export a --apply clone',
    'workspace.apply',
    { ref: 'a', dir: '/home/dev/project/clone', umask: 0o022, conflictMarkers: false, dryRun: false },
  ],
  [
    'vm workspace export a --branch b -f',
    'workspace.fetch',
    { ref: 'a', branch: 'b', force: true, umask: 0o022 },
  ],
  ['vm snapshot create a', 'snapshot.create', { ref: 'a' }],
  ['vm snapshot create a --name s --disk-only', 'snapshot.create', { ref: 'a', name: 's', diskOnly: true }],
  ['vm snapshot list', 'snapshot.list', {}],
  ['vm snapshot list a', 'snapshot.list', { ref: 'a' }],
  ['vm snapshot show s', 'snapshot.show', { snapshot: 's' }],
  ['vm snapshot restore s', 'snapshot.restore', { snapshot: 's' }],
  ['vm snapshot restore s -f', 'snapshot.restore', { snapshot: 's', force: true }],
  ['vm snapshot delete s', 'snapshot.delete', { snapshot: 's' }],
  ['vm workspace prepare a', 'workspace.prepare', { ref: 'a' }],
  [
    'vm workspace prepare a . --branch b --from v1 --include-untracked --guest-path /w --readonly --force --dry-run',
    'workspace.prepare',
    {
      ref: 'a',
      path: '/home/dev/project',
      ...{ branch: 'b', from: 'v1', includeUntracked: true, guestPath: '/w', readOnly: true },
      ...{ force: true, dryRun: true },
    },
  ],
  ['vm workspace status a', 'workspace.status', { ref: 'a' }],
  ['vm exec a --auto-prepare -- ls', 'workspace.prepare', { ref: 'a' }],
  ['vm resume a', 'vm.resume', { ref: 'a' }],
  ['vm bootstrap a', 'vm.bootstrap', { ref: 'a' }],
  [
    'vm snapshot export s out.snap --force',
    'snapshot.export',
    { snapshot: 's', output: '/home/dev/project/out.snap', force: true },
  ],
  [
    'vm snapshot import ../in.snap --name n --trust --nat',
    'snapshot.import',
    { input: '/home/dev/in.snap', name: 'n', trust: true, nat: true },
  ],
  ['vm snapshot export s -', 'snapshot.stream', {}],
  [
    'vm cp ./x/ a:tmp',
    'vm.cp',
    { ref: 'a', to: 'guest', hostPath: '/home/dev/project/x/', guestPath: 'tmp', follow: false },
  ],
  [
    'vm cp -L a:/etc/x .',
    'vm.cp',
    { ref: 'a', to: 'host', hostPath: '/home/dev/project/.', guestPath: '/etc/x', follow: true },
  ],
  ['vm cp a:x -', 'snapshot.stream', {}],
  ['vm kill a', 'vm.kill', { ref: 'a' }],
  ['vm kill a --signal sigterm', 'vm.kill', { ref: 'a', signal: 'TERM' }],
  ['vm delete a', 'vm.delete', { ref: 'a' }],
  ['vm prune --force', 'vm.prune', {}],
  ['vm list', 'vm.list', {}],
  ['vm ps -q', 'vm.list', {}],
  ['ps --running', 'vm.list', {}],
  ['vm show a', 'vm.show', { ref: 'a' }],
  ['vm set a --vcpu 4', 'vm.set', { ref: 'a', vcpus: 4 }],
  ['vm set a --nat', 'vm.set', { ref: 'a', nat: true }],
  ['vm set a --no-nat --memory 1G', 'vm.set', { ref: 'a', nat: false, memoryMib: 1024 }],
  ['vm logs a', 'vm.logs', { ref: 'a', follow: false, source: 'console' }],
  ['vm logs a -f -n 20 --vmm', 'vm.logs', { ref: 'a', follow: true, source: 'vmm', tailLines: 20 }],
  ['vm ssh a', 'ssh.setup', { ref: 'a' }],
  ['vm ssh-proxy a.vm', 'vm.ssh', { name: 'a' }],
  ['ssh-config', 'ssh.setup', {}],
  ['vm stats a', 'vm.stats', { ref: 'a' }],
  ['vm ports a', 'vm.ports', { ref: 'a' }],
  ['vm health a', 'vm.health', { ref: 'a' }],
  ['vm ping a', 'vm.health', { ref: 'a' }],
  ['image list', 'image.list', {}],
  ['image show i', 'image.show', { name: 'i' }],
  ['image build', 'image.build', { name: 'debian-bookworm', force: false }],
  ['image build x --force', 'image.build', { name: 'x', force: true }],
  ['image warm', 'image.warm', {}],
  [
    'image warm i --vcpu 2 --memory 1G --accel tcg',
    'image.warm',
    { name: 'i', vcpus: 2, memoryMib: 1024, accel: 'tcg' },
  ],
  ['system df', 'system.df', {}],
  ['kernel list', 'kernel.list', {}],
  ['kernel show k', 'kernel.show', { name: 'k' }],
  ['operation list', 'operation.list', {}],
  ['operation cancel 12ab', 'operation.cancel', { id: '12ab' }],
  ['state export', 'state.export', {}],
  [
    'state export -o out.sql --encoding zstd --ref r',
    'state.export',
    { output: '/home/dev/project/out.sql', encoding: 'zstd', ref: 'r' },
  ],
  ['state verify', 'state.verify', {}],
  ['state verify latest', 'state.verify', { source: 'latest' }],
  ['state verify ./latest', 'state.verify', { source: '/home/dev/project/latest' }],
  ['state bootstrap /x/y', 'state.bootstrap', { source: '/x/y', force: false, allowRollback: [] }],
  [
    'state bootstrap 3f2a --force --allow-rollback 102:101 --allow-rollback 9:7 --digest sha256:3f',
    'state.bootstrap',
    { source: '3f2a', force: true, allowRollback: ['102:101', '9:7'], digest: 'sha256:3f' },
  ],
  ['state list', 'state.list', {}],
  ['state prune', 'state.prune', { keep: 10, dryRun: false }],
  ['state prune --keep 2 -n', 'state.prune', { keep: 2, dryRun: true }],
  ['state push r.example.com/a/b', 'state.push', { source: 'latest', repository: 'r.example.com/a/b' }],
  [
    'state push r.example.com/a/b ../s --tag t',
    'state.push',
    { source: '/home/dev/s', repository: 'r.example.com/a/b', tag: 't' },
  ],
  [
    'state pull r.example.com/a/b@sha256:3f --ref mine',
    'state.pull',
    { repository: 'r.example.com/a/b', digest: 'sha256:3f', ref: 'mine' },
  ],
  ['state pull localhost:5000/b --tag t', 'state.pull', { repository: 'localhost:5000/b', tag: 't' }],
  ['state diff latest', 'state.diff', { from: 'latest' }],
  ['state diff a b/c', 'state.diff', { from: 'a', to: '/home/dev/project/b/c' }],
  ['state rebuild', 'state.rebuild', { dryRun: false }],
  ['state rebuild --dry-run', 'state.rebuild', { dryRun: true }],
  ['config check', 'config.check', {}],
  ['config check new.toml --json', 'config.check', { path: '/home/dev/project/new.toml' }],
  ['config schema', 'config.schema', {}],
  ['vm run --no-nat', 'vm.create', { nat: false }],
  ['doctor', 'doctor.run', { deep: false }],
  ['doctor --deep', 'doctor.run', { deep: true }],
  ['doctor --fix --dry-run', 'doctor.fix', { dryRun: true }],
  ['doctor --fix --yes', 'doctor.fix', { dryRun: false }],
  ['daemon status', 'daemon.status', {}],
  ['daemon start', 'daemon.status', {}],
  ['daemon stop', 'daemon.stop', {}],
];

/** Of commands that look before they ask. */
const ANSWERS: Readonly<Record<string, Answers>> = {
  'daemon stop': { 'daemon.status': () => ({ pid: 4711 }) as DaemonStatus },
};

for (const [line, method, params] of REQUESTS) {
  test(`banger ${line} asks ${method}`, async () => {
    const { calls, stderr } = await fakeCli(line.split(' '), { answers: ANSWERS[line] ?? {} });
    assert.ok(calls.length > 0, `no request was made: ${stderr}`);
    assert.deepEqual(calls.at(line in ANSWERS ? -1 : 0), { method, params });
  });
}

test('every command that asks the daemon is in the table above', () => {
  const lines = REQUESTS.map(([line]) => `${line} `);
  const withoutRequest = new Set([
    'version',
    'completion',
    '__complete',
    '__git-remote',
    'vm exec',
    'daemon logs',
    'config path',
    'config show',
  ]);
  const missing = leaves(root.commands)
    .filter((words) => !withoutRequest.has(words))
    .filter((words) => !lines.some((line) => line.startsWith(`${words} `)));
  assert.deepEqual(missing, []);
});

function leaves(commands: typeof root.commands, prefix = ''): string[] {
  return Object.entries(commands).flatMap(([name, entry]: [string, Leaf | typeof root]) =>
    isGroup(entry) ? leaves(entry.commands, `${prefix}${name} `) : [`${prefix}${name}`],
  );
}

test('vm exec passes the command, variables, directory and user on', async () => {
  let seen: unknown;
  const { status } = await fakeCli(
    [
      'vm',
      'exec',
      'dev',
      '-e',
      'A=1=2',
      '-e',
      'FROM_HOST',
      '-e',
      'UNSET',
      '-w',
      '/x',
      '-u',
      'me',
      '--',
      'ls',
      '--',
      '-e',
    ],
    {
      env: { FROM_HOST: 'h' },
      session: async (_client, params) => {
        seen = params;
        return 7;
      },
    },
  );
  assert.equal(status, 7);
  assert.deepEqual(seen, {
    ref: 'dev',
    argv: ['ls', '--', '-e'],
    env: { A: '1=2', FROM_HOST: 'h' },
    tty: false,
    cwd: '/x',
    user: 'me',
    compareWorkspace: true,
  });
});

test('a terminal is given when stdin and stdout are one, and -t and -T decide', async () => {
  const ttyOf = async (argv: readonly string[], stdinIsTTY: boolean, stdoutIsTTY: boolean) => {
    let tty: boolean | undefined;
    await fakeCli(['vm', 'exec', 'dev', ...argv], {
      stdinIsTTY,
      stdoutIsTTY,
      session: async (_client, params) => {
        tty = params.tty;
        return 0;
      },
    });
    return tty;
  };
  assert.equal(await ttyOf([], true, true), true);
  assert.equal(await ttyOf([], true, false), false);
  assert.equal(await ttyOf([], false, true), false);
  assert.equal(await ttyOf(['-T'], true, true), false);
  assert.equal(await ttyOf(['-t'], false, false), true);
});

test('TERM goes along with a terminal, unless it is set by hand', async () => {
  const envOf = async (argv: readonly string[]) => {
    let env: unknown;
    await fakeCli(['vm', 'exec', 'dev', ...argv], {
      env: { TERM: 'xterm-kitty' },
      session: async (_client, params) => {
        env = params.env;
        return 0;
      },
    });
    return env;
  };
  assert.deepEqual(await envOf(['-t']), { TERM: 'xterm-kitty' });
  assert.deepEqual(await envOf(['-t', '-e', 'TERM=vt100']), { TERM: 'vt100' });
  assert.deepEqual(await envOf([]), {});
});
