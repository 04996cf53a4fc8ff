import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { linkSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { snapshotOf, smallState } from '../../test/helpers/state-fixture.ts';
import { acquireInstanceLock } from '../host/instance-lock.ts';
import { openStore } from '../store/store.ts';
import { withCollectionLock } from './collection-lock.ts';
import { readSnapshotFiles } from './snapshot-files.ts';
import { writeSnapshotTo } from './snapshot-output.ts';

/** As another process sees it, through the stock SQLite shell. */
function othersCanLock(path: string): boolean {
  const result = spawnSync('sqlite3', ['-cmd', '.timeout 0', path, 'BEGIN EXCLUSIVE; ROLLBACK;']);
  assert.equal(result.error, undefined);
  return result.status === 0;
}

test('naming a file that this process has locked as a snapshot drops no lock', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'snapshot-files-'));
  const [lock, collectionLock, database] = ['lock', 'collection', 'state.db'].map((name) =>
    join(dir, name),
  ) as [string, string, string];
  const other = join(dir, 'other');
  writeFileSync(other, 'x');
  using _lock = await acquireInstanceLock(lock, { pid: process.pid });
  using store = openStore(database);
  await withCollectionLock(collectionLock, async () => {
    for (const [index, path] of [
      lock,
      collectionLock,
      database,
      `${database}-shm`,
      `${database}-wal`,
    ].entries()) {
      await assert.rejects(readSnapshotFiles(path), { code: 'in_use' }, path);
      // Under other names, and as the second file of a snapshot.
      const alias = join(dir, `alias-${index}`);
      symlinkSync(path, alias);
      await assert.rejects(readSnapshotFiles(alias), { code: 'in_use' });
      writeFileSync(join(dir, `payload-${index}`), 'x');
      linkSync(path, join(dir, `payload-${index}.manifest.json`));
      await assert.rejects(readSnapshotFiles(join(dir, `payload-${index}`)), { code: 'in_use' });
      await assert.rejects(writeSnapshotTo(path, snapshotOf(smallState())), { code: 'already_exists' });
    }
    assert.ok(!othersCanLock(lock));
    assert.ok(!othersCanLock(collectionLock));
  });
  store.close();
  await assert.rejects(readSnapshotFiles(database), { code: 'verify_failed' });
  rmSync(dir, { recursive: true });
});

test('the lock of a collection takes no room: on a full disk, a prune can still free some', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'snapshot-files-'));
  await withCollectionLock(join(dir, 'lock'), async () => {
    assert.ok(!othersCanLock(join(dir, 'lock')));
    assert.deepEqual(readdirSync(dir), ['lock']);
  });
  rmSync(dir, { recursive: true });
});
