import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { StateDirectory } from '../../test/helpers/state-directory.ts';
import { someImage } from '../../test/helpers/store-records.ts';
import { exportState } from '../state/export.ts';
import { SnapshotCollection } from '../state/snapshot-collection.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { openStore } from '../store/store.ts';
import { assertStateNotLost } from './lost-state.ts';

const HEX = '0123456789abcdef0123456789abcdef';

test('no database but VMs: refused, with their number and the ways back; nothing is made', async () => {
  using dir = new StateDirectory();
  const { paths } = dir;
  await assertStateNotLost(paths);
  mkdirSync(join(paths.vmsDir, HEX));
  await assertStateNotLost(paths);
  await dir.addVm({ id: '1'.repeat(32) });
  const lost = {
    code: 'invalid_state',
    message: `${paths.stateDb} is missing or empty, but 1 VM lies in ${paths.vmsDir}`,
    hint: '`banger state rebuild` makes it anew from what they say of themselves',
  };
  await assert.rejects(assertStateNotLost(paths), lost);
  assert.ok(!readdirSync(paths.stateDir).some((name) => name.startsWith('state.db')));
  writeFileSync(paths.stateDb, '');
  await dir.addVm({ id: '2'.repeat(32) });
  await assert.rejects(assertStateNotLost(paths), { message: /but 2 VMs lie in/ });
  rmSync(paths.stateDb);
  {
    using store = openStore(paths.stateDb);
    await assertStateNotLost(paths);
    store.upsertImage(someImage());
    const options = {
      migrations: MIGRATIONS,
      version: 'test',
      encoding: 'identity',
      createdAt: new Date().toISOString(),
    } as const;
    const snapshot = await store.read((database) => exportState(database, options));
    assert.ok(snapshot);
    await new SnapshotCollection(paths.snapshotsDir, MIGRATIONS).put(snapshot, ['latest']);
  }
  await assertStateNotLost(paths);
  for (const suffix of ['', '-wal', '-shm']) rmSync(paths.stateDb + suffix, { force: true });
  await assert.rejects(assertStateNotLost(paths), {
    hint: `${lost.hint}; \`banger state bootstrap latest\` restores the last snapshot`,
  });
  assert.ok(!existsSync(paths.stateDb));
});
