import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { someImage, someVm } from '../../test/helpers/store-records.ts';
import { openStore, type Store } from './store.ts';

let dir = '';
let store: Store;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'images-'));
  store = openStore(join(dir, 'state.db'));
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

test('an image reads back as it was written, by name and by id', () => {
  const image = someImage({
    workSeedPath: '/seed',
    seededSshPublicKeyFingerprint: 'SHA256:x',
    managed: false,
  });
  store.upsertImage(image);
  assert.deepEqual(store.getImageByName(image.name), image);
  assert.deepEqual(store.getImageById(image.id), image);
  assert.deepEqual(store.listImages(), [image]);
  assert.equal(store.getImageByName('other'), undefined);
  assert.equal(store.getImageById('other'), undefined);
});

test('an upsert replaces all but created_at', () => {
  const image = someImage();
  store.upsertImage(image);
  const changed = someImage({
    id: image.id,
    name: 'renamed',
    buildSize: '1',
    managed: false,
    updatedAt: '2027',
  });
  store.upsertImage({ ...changed, createdAt: '2030' });
  assert.deepEqual(store.listImages(), [changed]);
});

test('a taken name is refused', () => {
  store.upsertImage(someImage());
  assert.throws(
    () => store.upsertImage(someImage()),
    (error) =>
      error instanceof BangerError &&
      error.code === 'already_exists' &&
      error.message === 'image name "debian-bookworm" is taken',
  );
});

test('the list is ordered by creation, then by id', () => {
  const at = (second: number): string => `2026-01-01T00:00:0${second}.000Z`;
  const images = [
    someImage({ id: 'b', name: 'x2', createdAt: at(1) }),
    someImage({ id: 'a', name: 'x3', createdAt: at(1) }),
    someImage({ id: 'c', name: 'x1', createdAt: at(0) }),
  ];
  for (const image of images) store.upsertImage(image);
  assert.deepEqual(
    store.listImages().map((image) => image.id),
    ['c', 'a', 'b'],
  );
});

test('delete: true, then false; an image under a VM is refused with the VM’s name', () => {
  const image = someImage();
  store.upsertImage(image);
  const vm = store.insertVm(someVm(image.id), '172.16.0');
  assert.throws(
    () => store.deleteImage(image.id),
    (error) =>
      error instanceof BangerError && error.code === 'in_use' && error.hint === 'banger vm delete dev',
  );
  assert.equal(store.deleteVm(vm.id), true);
  assert.equal(store.deleteImage(image.id), true);
  assert.equal(store.deleteImage(image.id), false);
});

test('a damaged row is an error for who needs it and hides nothing from the list', () => {
  const image = someImage();
  store.upsertImage(image);
  store.upsertImage(someImage({ name: 'sound' }));
  const sql = `UPDATE images SET rootfs_path = 'relative', build_size = X'00ff' WHERE id = '${image.id}'`;
  assert.equal(spawnSync('sqlite3', [join(dir, 'state.db'), sql]).status, 0);
  assert.throws(
    () => store.getImageByName(image.name),
    /the row of image "debian-bookworm" is damaged: rootfs_path/,
  );
  assert.throws(() => store.getImageById(image.id), /is damaged/);
  assert.equal(store.listImages().length, 2);
  assert.ok(store.getImageByName('sound'));
});
