/** `banger state` with a daemon, without one, and what it prints. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SnapshotView, StateRestored } from '../../src/api/results/state.ts';
import { snapshotSource } from '../../src/cli/snapshot-argument.ts';
import { BangerError } from '../../src/core/errors.ts';
import { type Answers, fakeCli } from './fake-cli.ts';

const DIGEST = `sha256:${'3f2a9c01'.repeat(8)}`;

function snapshot(changes: Partial<SnapshotView> = {}): SnapshotView {
  return {
    digest: DIGEST,
    refs: ['latest'],
    path: '/state/snapshots/sha256/3f',
    bytes: 4096,
    encodedBytes: 1024,
    encoding: 'zstd',
    createdAt: '2026-01-02T03:04:05.000Z',
    sourceVersion: '0.1.0',
    migrationVersion: 102,
    controlVersion: '7',
    tableCounts: { vms: 2, images: 1 },
    problem: null,
    ...changes,
  };
}

const RESTORED: StateRestored = {
  digest: DIGEST,
  migrationVersion: 102,
  tableCounts: { vms: 2, images: 1 },
  previous: '/state/state.db.pre-restore-1',
  missing: ['image debian-bookworm is not here: banger image build debian-bookworm'],
};

const ANSWERS: Answers = {
  'state.export': () => ({ ...snapshot(), existed: true }),
  'state.verify': () => ({
    subject: '/state/state.db',
    digest: DIGEST,
    migrationVersion: 102,
    controlVersion: '7',
    tableCounts: { vms: 2, images: 1 },
    checks: ['the schema is that of this version'],
  }),
  'state.list': () => [snapshot(), snapshot({ refs: [], digest: `sha256:${'ab'.repeat(32)}` })],
  'state.prune': () => [snapshot({ refs: [] })],
  'state.bootstrap': () => RESTORED,
  'state.rebuild': () => ({ added: [], skipped: [], restored: null }),
};

const LINES = ['export', 'verify', 'list', 'prune'];

for (const line of LINES) {
  test(`state ${line}: the daemon that runs, and none is started`, async () => {
    const result = await fakeCli(['state', ...line.split(' ')], { answers: ANSWERS });
    assert.deepEqual(result.connects, [{ start: false }]);
    assert.equal(result.offlines, 0);
    assert.equal(result.closes, 1);
  });

  test(`state ${line}: a process of its own without one`, async () => {
    const result = await fakeCli(['state', ...line.split(' ')], { answers: ANSWERS, daemon: false });
    assert.deepEqual(result.connects, [{ start: false }]);
    assert.equal(result.offlines, 1);
    assert.equal(result.closes, 1);
    assert.doesNotMatch(result.stderr, /note:/);
  });
}

test('a daemon of another version is gone round, with a note', async () => {
  const helloError = new BangerError('version_mismatch', 'this is banger 2, and the daemon is 1');
  const result = await fakeCli(['state', 'list'], { answers: ANSWERS, helloError });
  assert.equal(result.status, 0);
  assert.equal(result.offlines, 1);
  assert.equal(result.closes, 2);
  assert.equal(result.stderr, 'note: working without the daemon: this is banger 2, and the daemon is 1\n');
});

const WITHOUT_DAEMON = [
  'bootstrap latest',
  'rebuild',
  'push a/b',
  'pull a/b --tag t',
  'verify latest',
  'diff latest',
];
for (const line of WITHOUT_DAEMON) {
  test(`state ${line} never asks a daemon`, async () => {
    const result = await fakeCli(['state', ...line.split(' ')], { answers: ANSWERS });
    assert.deepEqual(result.connects, []);
    assert.equal(result.offlines, 1);
    assert.equal(result.closes, 1);
  });
}

test('export says where it is, and when nothing had changed', async () => {
  const { stdout, stderr } = await fakeCli(['state', 'export', '-o', 'x.sql'], { answers: ANSWERS });
  assert.equal(
    stdout,
    `digest  ${DIGEST}\nholds   2 VMs, 1 image\nsize    4 KiB, 1 KiB as zstd\nrefs    latest\n` +
      'path    /state/snapshots/sha256/3f\ncopy    /home/dev/project/x.sql\n',
  );
  assert.equal(stderr, 'nothing has changed since this snapshot was first taken\n');
});

test('verify lists what was checked', async () => {
  const { stdout } = await fakeCli(['state', 'verify'], { answers: ANSWERS });
  assert.match(stdout, /^ok {2}the schema is that of this version\nsubject {2}\/state\/state\.db\n/);
});

test('list: a table; a column for problems when there are any', async () => {
  const { stdout } = await fakeCli(['state', 'list'], { answers: ANSWERS });
  const [header, first, second] = stdout.split('\n');
  assert.match(header ?? '', /^DIGEST +REFS +VMS +IMAGES +SIZE +SCHEMA +CHANGES +CREATED$/);
  assert.match(first ?? '', /^3f2a9c013f2a +latest +2 +1 +1K +102 +7 +\d/);
  assert.match(second ?? '', /^abababababab +- /);
  const bad = { 'state.list': () => [snapshot({ problem: 'checksum: x' })] };
  assert.match((await fakeCli(['state', 'list'], { answers: bad })).stdout, /PROBLEM\n.* checksum: x\n/);
});

test('bootstrap says what was restored, where the old one is, what is missing and what to run', async () => {
  const { stdout } = await fakeCli(['state', 'bootstrap', 'latest', '--force'], { answers: ANSWERS });
  assert.equal(
    stdout,
    `restored  ${DIGEST}\nholds     2 VMs, 1 image\nschema    102\nreplaced  /state/state.db.pre-restore-1\n` +
      'missing on this host:\n  image debian-bookworm is not here: banger image build debian-bookworm\n' +
      'next: banger doctor\n',
  );
});

test('rebuild: what was lost, what was skipped, what came of it', async () => {
  const nothing = await fakeCli(['state', 'rebuild'], { answers: ANSWERS });
  assert.match(nothing.stdout, /^nothing is lost/);
  const answers: Answers = {
    'state.rebuild': () => ({
      added: [{ kind: 'vm', name: 'dev', id: 'ab12', note: 'was web' }],
      skipped: [{ path: '/vms/x', why: 'no\u001b vm.json' }],
      restored: RESTORED,
    }),
  };
  const { stdout, stderr } = await fakeCli(['state', 'rebuild'], { answers });
  assert.match(stdout, /^ADDED +NAME +ID +NOTE\nvm +dev +ab12 +was web\nrestored /);
  assert.equal(stderr, 'skipped /vms/x: no? vm.json\n');
});

test('diff: 0, 1, 2 as diff(1)', async () => {
  const same = await fakeCli(['state', 'diff', 'latest']);
  assert.deepEqual([same.status, same.stdout], [0, '']);
  const answers: Answers = {
    'state.diff': () => ({
      from: 'a',
      to: 'b',
      truncated: true,
      rows: [
        { table: 'vms', row: 'new', change: 'added', columns: [] },
        { table: 'vms', row: 'old', change: 'removed', columns: [] },
        {
          table: 'vms',
          row: 'dev',
          change: 'changed',
          columns: [{ column: 'state', from: 'a\u001b', to: 'b' }],
        },
      ],
    }),
  };
  const different = await fakeCli(['state', 'diff', 'latest'], { answers });
  assert.equal(different.status, 1);
  assert.equal(different.stdout, '+ vms new\n- vms old\n~ vms dev\n    state: a? -> b\n');
  assert.equal(different.stderr, 'only the first 3 differences are shown\n');
  const failing: Answers = {
    'state.diff': () => {
      throw new BangerError('not_found', 'no such snapshot');
    },
  };
  assert.equal((await fakeCli(['state', 'diff', 'latest'], { answers: failing })).status, 2);
});

for (const [line, message] of [
  ['pull a/b', /^banger: which snapshot of a\/b\?\nbanger state pull a\/b@sha256:/],
  ['pull sha256:12', /^banger: "sha256:12" does not say from which registry\n/],
  ['push state', /^banger: "state" does not say in which registry\nbanger state push REGISTRY\/state\n/],
  ['pull a/b@sha256:12 --tag t', /^banger: a digest and --tag/],
  ['pull a/b:t --tag u', /^banger: "a\/b:t" has a tag in it\nbanger state pull a\/b --tag t\n/],
  ['prune --keep 0', /too small/],
  ['diff', /FROM is missing/],
  ['diff a b c', /unexpected argument "c"/],
  ['export extra', /unexpected argument "extra"/],
] as const) {
  test(`state ${line} is a wrong usage`, async () => {
    const { status, stderr, calls } = await fakeCli(['state', ...line.split(' ')]);
    assert.equal(status, 2);
    assert.match(stderr, message);
    assert.deepEqual(calls, []);
  });
}

test('export: an empty path is not the current directory', async () => {
  const { status, stderr, calls } = await fakeCli(['state', 'export', '--output', '']);
  assert.equal(status, 2);
  assert.match(stderr, /^banger: --output is empty/);
  assert.deepEqual(calls, []);
});

test('SNAPSHOT: a path when it has a slash or names a file here, else as it is', () => {
  const cwd = mkdtempSync(join(tmpdir(), 'banger-arg-'));
  try {
    writeFileSync(join(cwd, 'backup.sql'), '');
    assert.equal(snapshotSource({ cwd }, 'backup.sql'), join(cwd, 'backup.sql'));
    assert.equal(snapshotSource({ cwd }, './nothing'), join(cwd, 'nothing'));
    assert.equal(snapshotSource({ cwd }, '/x'), '/x');
    assert.equal(snapshotSource({ cwd }, 'latest'), 'latest');
    assert.equal(snapshotSource({ cwd }, DIGEST), DIGEST);
    // A directory is no snapshot: the ref of that name is meant.
    assert.equal(
      snapshotSource({ cwd: join(cwd, '..') }, cwd.split('/').at(-1) ?? ''),
      cwd.split('/').at(-1),
    );
  } finally {
    rmSync(cwd, { recursive: true });
  }
});

test('completion: refs and digests, from a daemon or without; then files', async () => {
  for (const daemon of [true, false]) {
    const options = { answers: ANSWERS, daemon };
    const result = await fakeCli(['__complete', '--', 'state', 'bootstrap', ''], options);
    const words = result.stdout.split('\n').map((line) => line.split('\t')[0]);
    assert.deepEqual(words, ['latest', DIGEST, `sha256:${'ab'.repeat(32)}`, '']);
    assert.deepEqual(result.connects, [{ start: false }]);
    const second = await fakeCli(['__complete', '--', 'state', 'diff', 'latest', 'la'], options);
    assert.match(second.stdout, /^latest\t/);
    const push = await fakeCli(['__complete', '--', 'state', 'push', 'a/b', 'la'], options);
    assert.match(push.stdout, /^latest\t/);
    const files = await fakeCli(['__complete', '--', 'state', 'verify', './'], options);
    assert.equal(files.stdout, ':files\n');
  }
});
