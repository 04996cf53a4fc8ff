import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { DaemonStatus, DiskUse } from '../../src/api/results/daemon.ts';
import type { ImageEntry, TemplateView } from '../../src/api/results/image.ts';
import { formatVmTable } from '../../src/cli/output/vm-table.ts';
import { type Answers, fakeCli, type FakeOptions, fakeDetail, fakeVm } from './fake-cli.ts';
import { someWorkspace } from '../helpers/store-records.ts';

const workspace = someWorkspace({ sourcePath: '/home/me/repo' });
const port = { hostAddress: '127.0.0.1', hostPort: 0, guestPort: 80 };
const other = { hostAddress: '::1', hostPort: 1, guestPort: 2 };
const publishing = {
  spec: { ...fakeVm('dev').spec, publish: [port, other] },
  runtime: {
    published: [
      { ...port, hostPort: 8080 },
      { ...other, problem: 'it is taken' },
    ],
  },
};
const vms = [
  fakeVm('dev', { workspace, ...publishing }),
  fakeVm('old-one', { state: 'stopped', guestIp: '', hostAddress: null }),
];
const answers: Answers = { 'vm.list': () => vms, 'vm.show': () => fakeDetail('dev') };

test('the table: columns aligned by two spaces, short ids, the image by name', () => {
  assert.equal(
    formatVmTable(vms, Date.parse('2026-01-02T03:14:05Z')),
    'ID            NAME     STATE    IMAGE            IP         HOST ADDRESS  VCPU  MEM       DISK  PORTS                 WORKSPACE      CREATED\n' +
      '646576000000  dev      running  debian-bookworm  127.1.2.3  127.7.7.3     4     8192 MiB  8G    8080->80,[::1]:1->2!  /home/me/repo  10m ago\n' +
      '6f6c642d6f6e  old-one  stopped  debian-bookworm  -          -             4     8192 MiB  8G    -                     -              10m ago\n',
  );
});

test('the table says why a VM stands still, and for a minute that it was woken', () => {
  const woken = { at: '2026-01-02T03:14:05Z', by: 'tcp', durationMs: 1 };
  const rows = [
    fakeVm('a', { state: 'paused', runtime: { heldBy: 'idle' } }),
    fakeVm('b', { state: 'saved', runtime: { heldBy: 'idle' } }),
    fakeVm('c', { state: 'paused', runtime: { heldBy: 'user' } }),
    fakeVm('d', { state: 'saved' }),
    fakeVm('e', { runtime: { woken } }),
    fakeVm('f', { state: 'stopped', runtime: { woken } }),
  ];
  const states = (seconds: number): readonly string[] =>
    formatVmTable(rows, Date.parse(woken.at) + seconds * 1000)
      .split('\n')
      .slice(1, -1)
      .map((line) => line.split(/ {2,}/)[2] ?? '');
  const still = ['paused (idle)', 'saved (idle)', 'paused', 'saved'];
  assert.deepEqual(states(59), [...still, 'running (woken by tcp)', 'stopped']);
  assert.deepEqual(states(60), [...still, 'running', 'stopped']);
});

test('list, its filters and its forms', async () => {
  assert.match((await fakeCli(['ps'], { answers })).stdout, /dev.*\n.*old-one/);
  assert.doesNotMatch((await fakeCli(['ps', '--running'], { answers })).stdout, /old-one/);
  assert.equal((await fakeCli(['ps', '-q'], { answers })).stdout, '646576000000\n6f6c642d6f6e\n');
  assert.deepEqual(JSON.parse((await fakeCli(['ps', '--json'], { answers })).stdout), vms);
  assert.deepEqual(
    JSON.parse((await fakeCli(['ps', '-q', '--json'], { answers })).stdout),
    vms.map((vm) => vm.id),
  );
  const none = await fakeCli(['ps'], { answers: { 'vm.list': () => [] } });
  assert.equal(
    none.stdout,
    'ID  NAME  STATE  IMAGE  IP  HOST ADDRESS  VCPU  MEM  DISK  PORTS  WORKSPACE  CREATED\n',
  );
});

test('show quotes the command line for a shell, and leaves out what is not known', async () => {
  const { stdout } = await fakeCli(['vm', 'show', 'dev'], { answers });
  assert.match(stdout, /^command line +qemu-system-x86_64 -name 'it'\\''s'$/m);
  assert.doesNotMatch(stdout, /undefined|null/);
  assert.doesNotMatch(stdout, /^last error/m);
  const json = await fakeCli(['vm', 'show', 'dev', '--json'], { answers });
  assert.deepEqual(JSON.parse(json.stdout), fakeDetail('dev'));
});

test('show has a line for each published port', async () => {
  const { stdout } = await fakeCli(['vm', 'show', 'dev'], {
    answers: { 'vm.show': () => fakeDetail('dev', publishing) },
  });
  assert.match(
    stdout,
    /^published +127\.0\.0\.1:8080 -> 80\npublished +\[::1\]:1 -> 2 \(not open: it is taken\)$/m,
  );
});

test('ports: what listens, and where it is published', async () => {
  const entry = { protocol: 'tcp', port: 80, endpoint: 'dev.vm:80', published: ['127.0.0.1:8080'] } as const;
  const nowhere = { forwarded: null, problem: null, url: null };
  const { stdout } = await fakeCli(['vm', 'ports', 'dev'], {
    answers: {
      'vm.ports': () => [
        {
          ...{ ...entry, ...nowhere, address: '0.0.0.0', pid: 7, process: 'nginx' },
          ...{ forwarded: '127.7.7.2:80', url: 'http://dev.vm/' },
        },
        { ...entry, ...nowhere, address: null, pid: null, process: null, published: [], problem: 'taken' },
      ],
    },
  });
  assert.equal(
    stdout,
    'ENDPOINT   PROTOCOL  ADDRESS  PORT  PID  PROCESS  PUBLISHED       FORWARDED     URL\n' +
      'dev.vm:80  tcp       0.0.0.0  80    7    nginx    127.0.0.1:8080  127.7.7.2:80  http://dev.vm/\n' +
      'dev.vm:80  tcp       -        80    -    -        -               - (taken)     -\n',
  );
});

test('ports: where nothing listens, that is said, and there is no table', async () => {
  const answers: Answers = {
    'vm.ports': () => [],
    'vm.show': ({ ref }) => fakeDetail(ref, { id: (ref === 'dev' ? 'a' : 'b').repeat(32) }),
  };
  const one = await fakeCli(['vm', 'ports', 'dev'], { answers });
  assert.deepEqual([one.status, one.stdout, one.stderr], [0, '', 'nothing listens in VM "dev"\n']);
  const two = await fakeCli(['vm', 'ports', 'dev', 'web'], { answers });
  assert.equal(two.stderr, 'nothing listens in VM "dev"\nnothing listens in VM "web"\n');
  const json = await fakeCli(['vm', 'ports', 'dev', '--json'], { answers });
  assert.deepEqual(JSON.parse(json.stdout), [{ ref: 'dev', ok: true, result: [] }]);
  assert.equal(json.stderr, '');
});

test('image list shows a broken image, and says on stderr what is wrong', async () => {
  const image = {
    name: 'gone',
    id: 'a'.repeat(32),
    artifactDir: '/state/images/gone',
    createdAt: '2026-01-02T03:04:05.000Z',
    usedBy: ['dev'],
    problem: 'it has lost\u001b its files',
  };
  const { stdout, stderr, status } = await fakeCli(['image', 'list'], {
    answers: { 'image.list': () => [image] },
  });
  assert.match(stdout, /^gone +broken +- +- +- +- +- +1 +-$/m);
  assert.equal(stderr, 'it has lost? its files\n');
  assert.equal(status, 0);
});

const template: TemplateView = {
  key: '3f2a9c01d4e5',
  vcpus: 2,
  memoryMib: 2048,
  accelerator: 'tcg',
  machine: 'microvm',
  allocatedBytes: 100 * 1024 ** 2,
  createdAt: '2026-01-02T03:04:05.000Z',
  usedAt: '2026-01-02T03:04:05.000Z',
};

test('image list counts templates and what they take, image show lists them', async () => {
  const image = {
    ...{ name: 'i', id: 'a'.repeat(32), artifactDir: '/i', usedBy: [], packages: [], problem: null },
    ...{ manifestVersion: 1, distro: 'd', arch: 'amd64', kernelName: 'k', source: 's' },
    rootfs: { file: 'f', format: 'raw', sizeBytes: 1, virtualSizeBytes: 1, sha256: 'd' },
    ...{ builtAt: '2026-01-02T03:04:05.000Z', createdAt: '2026-01-02T03:04:05.000Z' },
    templates: [template, { ...template, key: '000000000000', vcpus: 4 }],
  } as const satisfies ImageEntry;
  const images: Answers = {
    'image.list': () => [image, { ...image, name: 'none', templates: [] }],
    'image.show': () => image,
  };
  const { stdout } = await fakeCli(['image', 'list'], { answers: images });
  assert.match(stdout, /^NAME .* DISK +TEMPLATES +USED BY +BUILT$/m);
  assert.match(stdout, /^i .* 1B +2 \(200M\) +0 /m);
  assert.match(stdout, /^none .* 1B +- +0 /m);
  const shown = await fakeCli(['image', 'show', 'i'], { answers: images });
  const lines = shown.stdout.split('\n').filter((line) => line.startsWith('template'));
  assert.match(
    lines[0] ?? '',
    / 3f2a9c01d4e5 \| 2 vcpu \| 2048 MiB \| tcg, microvm \| 100 MiB on disk \| made .* ago, /,
  );
  assert.match(lines[1] ?? '', / 000000000000 \| 4 vcpu /);
});

test('image warm says whether it had to make the template', async () => {
  const answer = (existed: boolean): FakeOptions => ({
    answers: { 'image.warm': () => ({ image: 'i', existed, template, elapsedMs: 1500 }) },
  });
  assert.match(
    (await fakeCli(['image', 'warm'], answer(false))).stdout,
    /^i: made in 1\.5s\n3f2a9c01d4e5 \| /,
  );
  assert.match(
    (await fakeCli(['image', 'warm'], answer(true))).stdout,
    /^i: there already\n3f2a9c01d4e5 \| /,
  );
  const json = await fakeCli(['image', 'warm', '--json'], answer(true));
  assert.deepEqual(JSON.parse(json.stdout), { image: 'i', existed: true, template, elapsedMs: 1500 });
});

test('system df: a row for each kind, the total, and a word when it could not count all', async () => {
  const use: DiskUse = {
    ...{ stateDir: '/s', cacheDir: '/c', allocatedBytes: 3 * 1024 ** 2, reclaimableBytes: 1024 ** 2 },
    rows: [
      { kind: 'images', count: 1, allocatedBytes: 2 * 1024 ** 2, reclaimableBytes: 0, reclaim: null },
      {
        kind: 'vms',
        count: 2,
        allocatedBytes: 1024 ** 2,
        reclaimableBytes: 1024 ** 2,
        reclaim: 'banger vm prune',
      },
    ],
    truncated: true,
  };
  const answers: Answers = { 'system.df': () => use };
  const { stdout, stderr } = await fakeCli(['system', 'df'], { answers });
  assert.equal(
    stdout,
    'KIND    COUNT  SIZE  RECLAIMABLE  BY\n' +
      'images  1      2M    0B           -\n' +
      'vms     2      1M    1M           banger vm prune\n' +
      'total          3M    1M\n',
  );
  assert.match(stderr, /too small/);
  assert.deepEqual(JSON.parse((await fakeCli(['system', 'df', '--json'], { answers })).stdout), use);
});

test('daemon status and stop never start a daemon', async () => {
  const status = await fakeCli(['daemon', 'status'], { daemon: false });
  assert.equal(status.status, 1);
  assert.equal(status.stdout, 'not running\n');
  const json = await fakeCli(['daemon', 'status', '--json'], { daemon: false });
  assert.deepEqual(JSON.parse(json.stdout), { running: false });
  const stop = await fakeCli(['daemon', 'stop'], { daemon: false });
  assert.equal(stop.status, 0);
  assert.equal(stop.stdout, 'not running\n');
  const stopped = await fakeCli(['daemon', 'stop'], {
    answers: { 'daemon.status': () => ({ pid: 4711 }) as DaemonStatus, 'daemon.stop': () => null },
  });
  assert.deepEqual(stopped.ended, [4711]);
  assert.equal(stopped.stdout, 'stopped\n');
  for (const { connects } of [status, json, stop, stopped]) assert.deepEqual(connects, [{ start: false }]);
});

test('daemon logs reads the file without a daemon', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'banger-cli-'));
  try {
    const path = join(dir, 'bangerd.log');
    const missing = await fakeCli(['daemon', 'logs'], { daemonLogPath: path });
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /^banger: there is no log yet/);
    await writeFile(path, 'one\ntwo\nthree\n');
    const tail = await fakeCli(['daemon', 'logs', '-n', '2'], { daemonLogPath: path });
    assert.equal(tail.stdout, 'two\nthree\n');
    assert.deepEqual(tail.connects, []);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('Ctrl-C ends following a log with status 0', async () => {
  let interrupt = () => {};
  const result = await fakeCli(['vm', 'logs', 'dev', '-f'], {
    onInterruptible: (trigger) => {
      interrupt = trigger;
    },
    answers: { 'vm.logs': () => ({ ticket: '0'.repeat(64), streamSocketPath: '/run/s' }) },
    copyStream: async (_ticket, signal) => {
      interrupt();
      signal.throwIfAborted();
    },
  });
  assert.equal(result.status, 0);
  assert.equal(result.stderr, '');
});

test('daemon status says where names of VMs are answered for, or why nowhere', async () => {
  const said = async (names: DaemonStatus['names']): Promise<string | undefined> => {
    const status: DaemonStatus = {
      ...{ version: '1', pid: 1, startedAt: '2026-01-01T00:00:00Z', socketPath: '/s', stateDir: '/d' },
      ...{ logPath: '/l', rssBytes: 1, vmsRunning: 0, vmsTotal: 0, operations: 0, standby: false, names },
    };
    const { stdout } = await fakeCli(['daemon', 'status'], { answers: { 'daemon.status': () => status } });
    return /^names +(.*)$/m.exec(stdout)?.[1];
  };
  const address = '127.0.0.1:42069';
  assert.equal(await said({ address, state: 'listening', problem: null }), `NAME.vm on ${address}`);
  const failed = { address, state: 'failed', problem: 'it is taken' } as const;
  assert.equal(await said(failed), `not answered for: ${address}: it is taken`);
  assert.equal(await said(null), 'not answered for ([dns] enabled = false)');
});
