import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { someVm } from '../../../../test/helpers/store-records.ts';
import { VmSnapshotStore } from '../../../frozen/vm-snapshot-store.ts';
import { newId } from '../../../host/ids.ts';
import { temporaryPath } from '../../../host/files.ts';
import { SnapshotShelf } from './snapshot-shelf.ts';

const DIGEST = 'd'.repeat(64);
const FILE = { sizeBytes: 0, sparseSha256: DIGEST };
let dir = '';
let store: VmSnapshotStore;
let shelf: SnapshotShelf;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'banger-shelf-'));
  store = new VmSnapshotStore(dir);
  shelf = new SnapshotShelf(store);
});
afterEach(() => rmSync(dir, { recursive: true }));

async function add(name: string, id = newId()): Promise<string> {
  await using draft = await store.draft(id);
  await store.writeManifest(draft, {
    ...{
      id,
      name,
      createdAt: new Date().toISOString(),
      shape: {},
      vcpus: 1,
      memoryMib: 512,
      rootDiskBytes: 1,
    },
    ...{
      kernel: { name: 'k', sha256: DIGEST },
      initramfsSha256: DIGEST,
      accelerator: 'tcg',
      machine: 'microvm',
    },
    image: { name: 'i', rootfsSha256: DIGEST },
    vm: { id: newId(), name: 'dev', spec: someVm('i').spec, workspace: null },
    ...{ memory: null, state: null, rootDisk: FILE, transferDisk: FILE },
  });
  assert.ok(await draft.publish());
  return id;
}

test('a name is one thing to one of those who ask, also while nothing is published yet', async () => {
  await add('dev-1');
  const outcomes = await Promise.allSettled([
    shelf.reserveName('new', 'dev'),
    shelf.reserveName('new', 'dev'),
    shelf.reserveName(undefined, 'dev'),
    shelf.reserveName(undefined, 'dev'),
    shelf.reserveName('dev-1', 'dev'),
  ]);
  const given = outcomes.map((one) => (one.status === 'fulfilled' ? one.value.name : 'refused'));
  // Who has looked at what is there first: each has read a directory.
  assert.deepEqual(given.slice(0, 2).toSorted(), ['new', 'refused']);
  assert.deepEqual(given.slice(2, 4).toSorted(), ['dev-2', 'dev-3']);
  assert.equal(given[4], 'refused');
  for (const one of outcomes) if (one.status === 'fulfilled') one.value[Symbol.dispose]();
  assert.equal((await shelf.reserveName('new', 'dev')).name, 'new');
});

test('a name that is published while another looks for it is taken', async () => {
  const first = await shelf.reserveName('name', 'dev');
  const second = assert.rejects(shelf.reserveName('name', 'dev'), { code: 'already_exists' });
  await add('name');
  first[Symbol.dispose]();
  await second;
});

test('a name made of a long one fits', async () => {
  const { name } = await shelf.reserveName(undefined, 'x'.repeat(63));
  assert.equal(name, `${'x'.repeat(56)}-1`);
});

test('what is used is not removed, by however many; afterwards it is', async () => {
  const id = await add('used');
  const ends = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const uses = ends.map(({ promise }) => shelf.use('used', () => promise));
  for (const end of ends) {
    await new Promise((resolve) => setImmediate(resolve));
    await assert.rejects(shelf.remove('used'), { code: 'in_use' });
    end.resolve();
    await uses[ends.indexOf(end)];
  }
  assert.deepEqual(await shelf.remove('used'), { id, name: 'used', dir: join(dir, id) });
  await assert.rejects(
    shelf.use('used', async () => undefined),
    { code: 'not_found' },
  );
});

test('what is being removed is not used, nor removed twice', async () => {
  const id = await add('going');
  const begun = Promise.withResolvers<void>();
  const others = Promise.withResolvers<void>();
  const remove = store.remove.bind(store);
  store.remove = async (one) => {
    begun.resolve();
    await others.promise;
    await remove(one);
  };
  const removed = shelf.remove('going');
  await begun.promise;
  await assert.rejects(
    shelf.use(id, async () => undefined),
    { code: 'not_found' },
  );
  await assert.rejects(shelf.remove(id), { code: 'not_found' });
  others.resolve();
  await removed;
  assert.deepEqual(readdirSync(dir), []);
});

test('references: an exact id, then a name, then the beginning of one only; damaged ones by their id', async () => {
  const id = await add('xyz');
  await add('xyzw');
  assert.equal((await shelf.get('xyz')).manifest.id, id);
  assert.equal((await shelf.get(id.slice(0, 14))).manifest.id, id);
  await assert.rejects(shelf.get('xy'), { code: 'bad_request', message: /xyz or xyzw|xyzw or xyz/ });
  await assert.rejects(shelf.get('z'), { code: 'not_found' });
  writeFileSync(join(dir, id, 'manifest.json'), '{');
  await assert.rejects(shelf.get(id.slice(0, 12)), { code: 'io_error' });
  await shelf.remove(id.slice(0, 12));
  assert.ok(!existsSync(join(dir, id)));
});

test('the sweep takes what killed processes left, and nothing else', async () => {
  const kept = await add('kept');
  const half = newId();
  mkdirSync(join(dir, half));
  const dead = temporaryPath(join(dir, newId())).replace(`tmp-${process.pid}-`, 'tmp-999999999-');
  const alive = temporaryPath(join(dir, newId()));
  for (const path of [dead, alive, join(dir, 'notes')]) mkdirSync(path);
  await store.sweep();
  const left = [kept, alive.slice(dir.length + 1), 'notes'].sort();
  assert.deepEqual(readdirSync(dir).sort(), left);
});

test('one that cannot be looked at is not swept', {
  skip: process.getuid?.() === 0 && 'root sees everything',
}, async () => {
  const kept = await add('kept');
  chmodSync(join(dir, kept), 0);
  await store.sweep();
  chmodSync(join(dir, kept), 0o700);
  assert.ok(existsSync(join(dir, kept, 'manifest.json')));
});
