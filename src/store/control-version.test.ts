import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { someImage, someVm, someWorkspace } from '../../test/helpers/store-records.ts';
import { openStore, type Store } from './store.ts';

let dir = '';
let path = '';
let store: Store;
let version = 0;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'control-'));
  path = join(dir, 'state.db');
  store = openStore(path);
  version = current();
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

/** As another connection sees it: committed. */
function current(): number {
  using database = new DatabaseSync(path, { readOnly: true });
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
}

function raises(by: number, work: () => unknown): void {
  work();
  assert.equal(current() - version, by, String(work));
  version = current();
}

const AT = '2026-02-01T00:00:00.000Z';

test('every durable write raises it by one', () => {
  const image = someImage();
  raises(1, () => store.upsertImage(image));
  raises(1, () => store.upsertImage({ ...image, buildSize: '1' }));
  const vm = store.insertVm(someVm(image.id), '172.16.0');
  raises(1, () => undefined);
  raises(1, () => store.upsertVm({ ...vm, state: 'running' }));
  const workspace = someWorkspace();
  raises(1, () => store.setVmWorkspace(vm.id, workspace, AT));
  raises(1, () => store.deleteVm(vm.id));
  raises(1, () => store.deleteImage(image.id));
});

test('reads, samples and touches do not', async () => {
  const image = someImage();
  store.upsertImage(image);
  const vm = store.insertVm(someVm(image.id), '172.16.0');
  version = current();
  raises(0, () => store.setVmStats(vm.id, { cpuMs: 1 }));
  raises(0, () => store.touchVm(vm.id, AT));
  raises(0, () => store.listVms());
  await store.read((database) => database.prepare('SELECT * FROM vms').all());
  raises(0, () => undefined);
  assert.equal(store.getVmById(vm.id)?.stats.cpuMs, 1);
});

test('what changed nothing, and what failed, does not', () => {
  const image = someImage();
  store.upsertImage(image);
  const vm = store.insertVm(someVm(image.id), '172.16.0');
  version = current();
  raises(0, () => store.deleteVm('none'));
  raises(0, () => store.deleteImage('none'));
  raises(0, () => store.setVmWorkspace('none', null, AT));
  raises(0, () => assert.throws(() => store.deleteImage(image.id)));
  raises(0, () => assert.throws(() => store.upsertImage(someImage())));
  raises(0, () => assert.throws(() => store.insertVm(someVm(image.id), '172.16.0')));
  raises(0, () => assert.throws(() => store.upsertVm({ ...vm, id: 'other', guestIp: '172.16.0.9' })));
  raises(0, () => assert.throws(() => store.upsertVm({ ...vm, imageId: 'none' })));
});

test('it stays at its largest value, and starts anew from nonsense', () => {
  for (const [before, after] of [
    [2 ** 31 - 2, 2 ** 31 - 1],
    [2 ** 31 - 1, 2 ** 31 - 1],
    [-5, 1],
  ] as const) {
    using database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = ${before}`);
    store.upsertImage(someImage({ name: `at ${before}` }));
    assert.equal(current(), after);
  }
});

test('a read of the store is one moment, refuses writes, does not nest and leaves nothing open', async () => {
  store.upsertImage(someImage());
  const count = 'SELECT count(*) AS n FROM images';
  const seen = await store.read((database) => {
    const before = database.prepare(count).get()?.['n'];
    using other = new DatabaseSync(path);
    other.exec("UPDATE images SET name = 'changed meanwhile'");
    return [before, database.prepare('SELECT name FROM images').get()?.['name']];
  });
  assert.deepEqual(seen, [1, 'debian-bookworm']);
  await assert.rejects(store.read((database) => database.exec('DELETE FROM images')));
  await assert.rejects(
    store.read(async () => 1),
    /synchronous/,
  );
  let nested: Promise<unknown> | undefined;
  await store.read(() => {
    nested = store.read(() => 1);
    nested.catch(() => undefined);
  });
  await assert.rejects(nested ?? Promise.resolve(), { code: 'ERR_ASSERTION' });
  store.upsertImage(someImage({ name: 'writable again' }));
  assert.equal(store.listImages().length, 2);
});
