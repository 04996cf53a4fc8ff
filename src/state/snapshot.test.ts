import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { someImage } from '../../test/helpers/store-records.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { migrate } from '../store/migrations/run.ts';
import { openStore } from '../store/store.ts';
import * as snapshot from './snapshot.ts';

test('the life of a snapshot under the names of the seed document', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'face-'));
  try {
    const [from, to] = ['from', 'to'].map((name) => join(dir, name));
    for (const one of [from, to]) mkdirSync(one as string, { mode: 0o700 });
    const target = join(to as string, 'state.db');
    using store = openStore(join(from as string, 'state.db'));
    store.upsertImage(someImage({ name: 'kept' }));
    const options = {
      migrations: MIGRATIONS,
      version: '1.2.3',
      encoding: 'zstd',
      createdAt: '2026-01-31T12:00:00.000Z',
    } as const;
    const exported = await store.read((database) => snapshot.export(database, options));
    assert.ok(exported);
    const { data, manifest, manifestBytes } = exported;
    assert.equal(snapshot.isFresh(target), true);

    const verified = snapshot.verify(data, manifestBytes, { migrations: MIGRATIONS });
    const copy = join(to as string, 'copy.db');
    snapshot.restoreToTempDb(verified, copy);
    assert.equal(snapshot.isFresh(copy), false);
    rmSync(copy);

    const bootstrap = (force: boolean) =>
      snapshot.bootstrap(
        data,
        manifestBytes,
        target,
        (database: DatabaseSync) => migrate(database, target, MIGRATIONS),
        force,
        { migrations: MIGRATIONS, lockPath: join(to as string, 'lock'), holder: { pid: process.pid } },
      );
    assert.equal((await bootstrap(false)).digest, manifest.checksum);
    await assert.rejects(bootstrap(false), snapshot.ErrNotFresh);
    assert.notEqual((await bootstrap(true)).previous, null);
    data[0] = (data[0] ?? 0) ^ 1;
    assert.throws(() => snapshot.verify(data, manifestBytes, { migrations: MIGRATIONS }), snapshot.ErrVerify);
    await assert.rejects(bootstrap(true), snapshot.ErrVerify);

    using restored = openStore(target);
    assert.deepEqual(
      restored.listImages().map(({ name }) => name),
      ['kept'],
    );
    assert.deepEqual(
      readdirSync(to as string).filter((name) => !/^(state\.db|lock)/.test(name)),
      [],
    );
  } finally {
    rmSync(dir, { recursive: true });
  }
});
