import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { addVm, snapshotOf, smallState } from '../../test/helpers/state-fixture.ts';
import { BangerError, type ErrorCode } from '../core/errors.ts';
import type { SnapshotEncoding } from '../core/model/snapshot.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { ErrVerify } from './errors.ts';
import { exportState, type Snapshot } from './export.ts';
import { encodeManifest } from './manifest.ts';
import { SnapshotCollection } from './snapshot-collection.ts';
import { verify } from './verify.ts';

const root = mkdtempSync(join(tmpdir(), 'banger-collection-'));
after(() => rmSync(root, { recursive: true }));
let dir = '';
let collection: SnapshotCollection;
let count = 0;
beforeEach(() => {
  count += 1;
  dir = join(root, String(count), 'snapshots');
  mkdirSync(join(root, String(count)));
  collection = new SnapshotCollection(dir, MIGRATIONS);
});

/** Snapshots of different states, the later ones newer. */
function series(length: number): readonly Snapshot[] {
  const state = smallState();
  return Array.from({ length }, (_, index) => {
    addVm(state, `vm-${index}`);
    const createdAt = `2026-03-01T00:00:${String(index).padStart(2, '0')}Z`;
    return exportState(state, { migrations: MIGRATIONS, version: '0.1.0', encoding: 'identity', createdAt });
  });
}

function hexOf(snapshot: Snapshot): string {
  return snapshot.manifest.checksum.slice('sha256:'.length);
}

function pathOf(snapshot: Snapshot): string {
  return join(dir, 'sha256', hexOf(snapshot));
}

function flip(path: string, at = 100): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
}

/** Everything below but the lock. */
function listing(): readonly string[] {
  return (readdirSync(dir, { recursive: true }) as string[]).filter((name) => name !== 'lock').toSorted();
}

function fails(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof BangerError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(`${error.message} ${error.hint}`, message);
    return true;
  };
}

test('what is put is found by digest, prefix and ref, with these bytes', async () => {
  const snapshot = snapshotOf(smallState());
  const { checksum } = snapshot.manifest;
  assert.deepEqual(await collection.put(snapshot, ['latest', '2026-02-01']), {
    digest: checksum,
    path: pathOf(snapshot),
    existed: false,
  });
  const hex = hexOf(snapshot);
  for (const name of [checksum, hex, hex.slice(0, 6), checksum.slice(0, 20), 'latest', '2026-02-01']) {
    const found = await collection.read(name);
    assert.deepEqual([found.digest, found.path], [checksum, pathOf(snapshot)]);
    assert.ok(found.data.equals(snapshot.data));
    assert.ok(found.manifestBytes.equals(snapshot.manifestBytes));
    verify(found.data, found.manifestBytes, { migrations: MIGRATIONS, digest: checksum });
  }
  assert.equal(readFileSync(join(dir, 'refs', 'latest'), 'latin1'), `${checksum}\n`);
});

test('directories are 0700 and files 0600, and nothing else is made', async () => {
  const snapshot = snapshotOf(smallState());
  await collection.put(snapshot, ['latest']);
  const hex = hexOf(snapshot);
  assert.deepEqual(listing(), [
    'refs',
    'refs/latest',
    'sha256',
    `sha256/${hex}`,
    `sha256/${hex}.manifest.json`,
  ]);
  for (const name of ['.', 'lock', ...listing()]) {
    const stat = lstatSync(join(dir, name));
    assert.equal(stat.mode & 0o777, stat.isDirectory() ? 0o700 : 0o600, name);
  }
});

test('a collection that is not there is empty, and stays absent', async () => {
  assert.deepEqual(await collection.list(), []);
  assert.deepEqual(await collection.prune({ keep: 1, dryRun: true }), []);
  await assert.rejects(collection.read('latest'), fails('not_found', /banger state list/));
  assert.equal(existsSync(dir), false);
});

test('what does not verify is not taken in', async () => {
  const snapshot = snapshotOf(smallState());
  const data = Buffer.from(snapshot.data);
  data.writeUInt8(data.readUInt8(50) ^ 1, 50);
  await assert.rejects(collection.put({ ...snapshot, data }, ['latest']), ErrVerify);
  await assert.rejects(collection.put({ ...snapshot, manifestBytes: Buffer.from('{}') }), ErrVerify);
  for (const ref of ['', '.x', '../x', 'a/b', 'x'.repeat(129), 'é', 'a b', 'sha256:x', hexOf(snapshot)]) {
    await assert.rejects(collection.put(snapshot, [ref]), fails('bad_request', /is no name for a snapshot/));
  }
  assert.equal(existsSync(dir), false);
});

test('a good snapshot is kept, whatever the encoding of the new one; refs move', async () => {
  const state = smallState();
  const plain = snapshotOf(state);
  const packed = snapshotOf(state, 'zstd');
  await collection.put(plain, ['mine']);
  assert.equal((await collection.put(packed, ['latest'])).existed, true);
  assert.ok((await collection.read('latest')).data.equals(plain.data));
  addVm(state, 'more');
  const next = snapshotOf(state);
  await collection.put(next, ['mine']);
  assert.equal((await collection.read('mine')).digest, next.manifest.checksum);
  assert.equal((await collection.read('latest')).digest, plain.manifest.checksum);
});

const DAMAGES: Readonly<Record<string, (path: string) => void>> = {
  'a bit of the payload': (path) => flip(path),
  'a bit of the manifest': (path) => flip(`${path}.manifest.json`),
  'a short payload': (path) => truncateSync(path, 100),
  'an empty manifest': (path) => truncateSync(`${path}.manifest.json`),
  'no payload': (path) => rmSync(path),
  'no manifest': (path) => rmSync(`${path}.manifest.json`),
  'a huge manifest': (path) => truncateSync(`${path}.manifest.json`, 2 ** 40),
  'a huge payload': (path) => truncateSync(path, 2 ** 40),
  'a payload elsewhere': (path) => {
    renameSync(path, `${path}.moved`);
    symlinkSync(`${path}.moved`, path);
  },
  'a link to a device': (path) => {
    rmSync(path);
    symlinkSync('/dev/zero', path);
  },
};

for (const [name, damage] of Object.entries(DAMAGES)) {
  test(`damaged: ${name}: listed as it is, and replaced by a good one in any encoding`, async () => {
    const state = smallState();
    const snapshot = snapshotOf(state);
    const { digest, path } = await collection.put(snapshot, ['latest']);
    damage(path);
    const [entry, ...others] = await collection.list();
    assert.deepEqual(others, []);
    assert.deepEqual([entry?.digest, entry?.refs, entry?.path], [digest, ['latest'], path]);
    // A flipped bit of the payload shows only when it is read.
    assert.equal(entry?.problem === undefined, name === 'a bit of the payload');
    await assert.rejects(async () => {
      const found = await collection.read('latest');
      verify(found.data, found.manifestBytes, { migrations: MIGRATIONS, digest });
    }, BangerError);
    const packed = snapshotOf(state, 'zstd');
    assert.equal((await collection.put(packed)).existed, false);
    const found = await collection.read(digest);
    assert.ok(found.data.equals(packed.data));
    assert.ok(lstatSync(path).isFile());
    assert.equal((await collection.list())[0]?.problem, undefined);
  });
}

test('lists the newest first; of damaged ones the time of the file', async () => {
  const snapshots = series(4);
  for (const index of [2, 0, 3, 1]) await collection.put(snapshots[index] as Snapshot, [`n${index}`]);
  const order = async (): Promise<readonly string[]> => (await collection.list()).flatMap(({ refs }) => refs);
  assert.deepEqual(await order(), ['n3', 'n2', 'n1', 'n0']);
  rmSync(`${pathOf(snapshots[0] as Snapshot)}.manifest.json`);
  assert.deepEqual(await order(), ['n0', 'n3', 'n2', 'n1']);
  const [, newest] = await collection.list();
  assert.equal(newest?.manifest?.created_at, '2026-03-01T00:00:03Z');
  assert.equal(newest?.createdAt, '2026-03-01T00:00:03Z');
});

test('refs that are damaged or lead nowhere are listed, and say so when they are used', async () => {
  const snapshot = snapshotOf(smallState());
  await collection.put(snapshot, ['good']);
  const refs = join(dir, 'refs');
  const nowhere = `sha256:${'0'.repeat(64)}`;
  writeFileSync(join(refs, 'nowhere'), `${nowhere}\n`);
  writeFileSync(join(refs, 'no-newline'), nowhere);
  writeFileSync(join(refs, 'long'), 'x'.repeat(1000));
  writeFileSync(join(refs, 'path'), '../../../../etc/passwd\n');
  mkdirSync(join(refs, 'directory'));
  symlinkSync(join(refs, 'good'), join(refs, 'link'));
  const entries = await collection.list();
  const broken = entries.filter(({ digest }) => digest === '');
  const names = ['directory', 'link', 'long', 'no-newline', 'path'];
  assert.deepEqual(broken.flatMap((entry) => entry.refs).toSorted(), names);
  for (const { problem, path } of broken) assert.equal(problem, `the ref ${path} is damaged`);
  const lost = entries.find(({ digest }) => digest === nowhere);
  assert.deepEqual([lost?.refs, lost?.problem], [['nowhere'], 'its files are missing']);
  for (const name of names) await assert.rejects(collection.read(name), fails('verify_failed', /is damaged/));
  await assert.rejects(
    collection.read('nowhere'),
    fails('not_found', /"nowhere" points to sha256:0+, which is not here/),
  );
});

test('names that lead to nothing, to several, or can be no name', async () => {
  const snapshot = snapshotOf(smallState());
  await collection.put(snapshot, ['before-update', 'latest']);
  const hex = hexOf(snapshot);
  await assert.rejects(collection.read('before-upgrade'), fails('not_found', /did you mean before-update\?/));
  await assert.rejects(collection.read('latesd'), fails('not_found', /did you mean latest\?/));
  await assert.rejects(collection.read(`${hex.slice(0, 4)}00000`), fails('not_found', new RegExp(hex)));
  await assert.rejects(collection.read(`sha256:${'f'.repeat(64)}`), fails('not_found', /banger state list/));
  await assert.rejects(collection.read('zzz'), fails('not_found', /banger state list/));
  for (const name of [
    '',
    '../x',
    'a/b',
    './x',
    'sha256:abc',
    'x y',
    '-x',
    `sha256:${'g'.repeat(64)}`,
    '\0',
  ]) {
    await assert.rejects(collection.read(name), fails('bad_request', /names no snapshot/));
  }
  // Two manifests whose names begin alike; that they are damaged is no matter here.
  const twins = ['a', 'b'].map((end) => `abcdef${'0'.repeat(57)}${end}`);
  for (const twin of twins) writeFileSync(join(dir, 'sha256', `${twin}.manifest.json`), '');
  await assert.rejects(
    collection.read('abcdef'),
    fails('bad_request', /2 snapshots begin with "abcdef".*0a, sha256:.*0b/s),
  );
  assert.equal((await collection.resolve(`abcdef${'0'.repeat(57)}a`)).digest, `sha256:${twins[0]}`);
  // A ref of that name decides: dates are hex digits.
  await collection.put(snapshot, ['abcdef']);
  assert.equal((await collection.resolve('abcdef')).digest, snapshot.manifest.checksum);
});

test('an exported file is found by its path, whatever it is called', async () => {
  const snapshot = snapshotOf(smallState(), 'zstd');
  const path = join(root, 'my export');
  writeFileSync(path, snapshot.data);
  await assert.rejects(collection.read(path), fails('verify_failed', /my export\.manifest\.json is missing/));
  writeFileSync(`${path}.manifest.json`, snapshot.manifestBytes);
  const found = await collection.read(path);
  assert.deepEqual([found.digest, found.path], [undefined, path]);
  assert.ok(found.data.equals(snapshot.data) && found.manifestBytes.equals(snapshot.manifestBytes));
  symlinkSync(path, `${path}.link`);
  symlinkSync(`${path}.manifest.json`, `${path}.link.manifest.json`);
  assert.ok((await collection.read(`${path}.link`)).data.equals(snapshot.data));
  await assert.rejects(collection.read(join(root, 'nothing')), fails('not_found', /no snapshot/));
  await assert.rejects(collection.read('/dev/zero'), fails('io_error', /not a regular file/));
  truncateSync(path, 2 ** 40);
  await assert.rejects(collection.read(path), fails('limit_exceeded', /larger than/));
});

test('prune keeps the newest, what the user named, and what was taken last', async () => {
  const snapshots = series(6);
  const names = [['auto-old', 'latest'], ['auto-1'], ['mine', 'auto-2'], [], ['auto-4'], []];
  for (const [index, snapshot] of snapshots.entries()) await collection.put(snapshot, names[index]);
  const digests = snapshots.map(({ manifest }) => manifest.checksum);
  const before = listing();
  // latest (0) and the newest (5) are the two; 2 has a name.
  const expected = [4, 3, 1].map((index) => digests[index]);
  const planned = await collection.prune({ keep: 2, dryRun: true });
  assert.deepEqual(
    planned.map(({ digest }) => digest),
    expected,
  );
  assert.deepEqual(listing(), before);
  const removed = await collection.prune({ keep: 2, dryRun: false });
  assert.deepEqual(removed, planned);
  assert.deepEqual(
    (await collection.list()).map(({ digest }) => digest),
    [5, 2, 0].map((index) => digests[index]),
  );
  assert.deepEqual(readdirSync(join(dir, 'refs')).toSorted(), ['auto-2', 'auto-old', 'latest', 'mine']);
  assert.deepEqual(await collection.prune({ keep: 2, dryRun: false }), []);
  assert.equal(readdirSync(join(dir, 'sha256')).length, 6);
});

test('prune removes what is damaged and what is left over, but nothing the user named', async () => {
  const [bad, named, good] = series(3) as [Snapshot, Snapshot, Snapshot];
  await collection.put(bad, ['auto-x']);
  await collection.put(named, ['mine']);
  await collection.put(good);
  truncateSync(pathOf(bad), 10);
  truncateSync(pathOf(named), 10);
  const leftover = join(dir, 'sha256', 'e'.repeat(64));
  writeFileSync(leftover, 'a payload whose manifest was never written');
  mkdirSync(join(dir, 'sha256', 'd'.repeat(64)));
  writeFileSync(join(dir, 'sha256', `.${'c'.repeat(64)}.tmp-4194305-1-0123456789ab`), '');
  writeFileSync(join(dir, 'sha256', 'notes of the user'), '');
  writeFileSync(join(dir, 'refs', 'auto-broken'), '');
  const removed = await collection.prune({ keep: 10, dryRun: false });
  assert.deepEqual(removed.flatMap(({ refs }) => refs).toSorted(), ['auto-broken', 'auto-x']);
  const files = [named, good].flatMap((one) => [hexOf(one), `${hexOf(one)}.manifest.json`]);
  assert.deepEqual(readdirSync(join(dir, 'sha256')).toSorted(), [...files, 'notes of the user'].toSorted());
  assert.deepEqual(readdirSync(join(dir, 'refs')), ['mine']);
});

test('prune leaves alone what only another banger can read', async () => {
  const [first, second, third] = series(3) as [Snapshot, Snapshot, Snapshot];
  for (const snapshot of [first, second, third]) await collection.put(snapshot, ['auto-x', 'latest']);
  const manifest = readFileSync(`${pathOf(first)}.manifest.json`, 'utf8');
  writeFileSync(
    `${pathOf(first)}.manifest.json`,
    manifest.replace(/"manifest_version":1/, '"manifest_version":2'),
  );
  const { manifest_checksum: _, ...fields } = second.manifest;
  writeFileSync(
    `${pathOf(second)}.manifest.json`,
    encodeManifest({ ...fields, encoding: 'brotli' as SnapshotEncoding }).bytes,
  );
  const before = listing();
  assert.deepEqual(
    new Set((await collection.list()).map(({ problem }) => problem?.split(':')[0])),
    new Set(['version', 'encoding', undefined]),
  );
  assert.deepEqual(await collection.prune({ keep: 1, dryRun: false }), []);
  assert.deepEqual(listing(), before);
});

test('prune does not guess what a damaged ref of the user’s keeps', async () => {
  const snapshots = series(3);
  for (const snapshot of snapshots) await collection.put(snapshot);
  writeFileSync(join(dir, 'refs', 'mine'), 'damaged');
  const before = listing();
  for (const dryRun of [true, false]) {
    await assert.rejects(collection.prune({ keep: 1, dryRun }), fails('invalid_state', /rm .*refs\/mine/));
  }
  assert.deepEqual(listing(), before);
});

test('a directory that others can enter is refused', async () => {
  mkdirSync(dir, { mode: 0o700 });
  mkdirSync(join(dir, 'sha256'));
  chmodSync(join(dir, 'sha256'), 0o755);
  await assert.rejects(collection.put(snapshotOf(smallState())), fails('permission', /chmod 700/));
  assert.deepEqual(listing(), ['sha256']);
});

test('puts and prunes at once, of several collections in one place: all that is listed is good', async () => {
  const state = smallState();
  const all = [...series(4), snapshotOf(state), snapshotOf(state, 'zstd')];
  const twice = [...all, ...all];
  const work = twice.map(async (snapshot, index) => {
    const one = new SnapshotCollection(dir, MIGRATIONS);
    await one.put(snapshot, ['latest', `n${index % all.length}`]);
    if (index % 4 === 0) await one.prune({ keep: 2, dryRun: false });
    for (const entry of await one.list()) {
      assert.equal(entry.problem, undefined);
    }
  });
  await Promise.all(work);
  const entries = await collection.list();
  assert.equal(entries.length, 5);
  for (const { digest } of entries) {
    const found = await collection.read(digest);
    verify(found.data, found.manifestBytes, { migrations: MIGRATIONS, digest });
  }
  assert.ok(!listing().some((name) => name.includes('.tmp-')));
});
