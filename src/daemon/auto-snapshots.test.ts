import assert from 'node:assert/strict';
import { chmodSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { StateDirectory } from '../../test/helpers/state-directory.ts';
import { databaseAt } from '../../test/helpers/state-fixture.ts';
import { someImage } from '../../test/helpers/store-records.ts';
import { type Log, NO_LOG } from '../host/log.ts';
import { SnapshotCollection } from '../state/snapshot-collection.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { openStore, type Store } from '../store/store.ts';
import {
  MigrationSnapshot,
  type PeriodicOutcome,
  startPeriodicSnapshots,
  takePeriodicSnapshot,
} from './auto-snapshots.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const BEGIN_MS = Date.parse('2026-01-31T12:34:56.789Z');

let dir: StateDirectory;
let store: Store;
let collection: SnapshotCollection;
beforeEach(() => {
  dir = new StateDirectory();
  store = openStore(dir.paths.stateDb);
  collection = new SnapshotCollection(dir.paths.snapshotsDir, MIGRATIONS);
});
afterEach(() => {
  store.close();
  dir[Symbol.dispose]();
});

const take = (afterMs: number, log: Log = NO_LOG): Promise<PeriodicOutcome> => {
  const now = (): Date => new Date(BEGIN_MS + afterMs);
  return takePeriodicSnapshot({ collection, source: store, log, version: 'test', intervalMs: DAY_MS, now });
};
const refs = (): readonly string[] => {
  const path = join(dir.paths.snapshotsDir, 'refs');
  return existsSync(path)
    ? readdirSync(path)
        .filter((name) => !name.startsWith('.'))
        .sort()
    : [];
};
const payloads = (): number =>
  readdirSync(join(dir.paths.snapshotsDir, 'sha256')).filter((name) => !name.includes('.')).length;

/** A log that remembers its warnings. */
function listening(): { readonly log: Log; readonly warnings: string[] } {
  const warnings: string[] = [];
  return { warnings, log: { ...NO_LOG, warn: (_fields, message) => warnings.push(message) } };
}

test('once an interval, when the state has changed; `latest` points to it', async () => {
  assert.equal(await take(0), 'empty');
  assert.deepEqual(refs(), []);
  store.upsertImage(someImage({ id: 'a', name: 'a' }));
  assert.equal(await take(0), 'taken');
  assert.deepEqual(refs(), ['auto-2026-01-31T123456Z', 'latest']);
  store.upsertImage(someImage({ id: 'b', name: 'b' }));
  assert.equal(await take(DAY_MS - 1000), 'not due');
  assert.equal(await take(DAY_MS), 'taken');
  assert.equal(await take(3 * DAY_MS), 'unchanged');
  store.upsertImage(someImage({ id: 'c', name: 'c' }));
  assert.equal(await take(3 * DAY_MS), 'taken');
  assert.deepEqual(refs(), [
    'auto-2026-01-31T123456Z',
    'auto-2026-02-01T123456Z',
    'auto-2026-02-03T123456Z',
    'latest',
  ]);
  const latest = await collection.read('latest');
  assert.equal(latest.digest, (await collection.read('auto-2026-02-03T123456Z')).digest);
});

test('a clock that was set back does not stop them', async () => {
  store.upsertImage(someImage({ id: 'a', name: 'a' }));
  assert.equal(await take(5 * DAY_MS), 'taken');
  store.upsertImage(someImage({ id: 'b', name: 'b' }));
  assert.equal(await take(0), 'taken');
  assert.equal(await take(1000), 'not due');
  assert.equal(await take(DAY_MS), 'unchanged');
});

test('the newest seven stay; what the user keeps, and what was taken before a migration, stays too', async () => {
  store.upsertImage(someImage({ id: 'mine', name: 'mine' }));
  assert.equal(await take(0), 'taken');
  await collection.put(await collection.read('latest'), ['mine']);
  store.upsertImage(someImage({ id: 'before', name: 'before' }));
  assert.equal(await take(DAY_MS), 'taken');
  await collection.put(await collection.read('latest'), ['auto-before-migration-102-2026-02-01T123456Z']);
  for (let day = 2; day < 12; day += 1) {
    store.upsertImage(someImage({ id: `${day}`, name: `day-${day}` }));
    assert.equal(await take(day * DAY_MS), 'taken');
  }
  const periodic = refs().filter((name) => /^auto-\d/.test(name));
  assert.equal(payloads(), 2 + 7);
  assert.deepEqual(
    periodic.slice(-7),
    periodic.filter((name) => name >= 'auto-2026-02-05'),
  );
  assert.ok(refs().includes('mine'));
  assert.ok(refs().includes('auto-before-migration-102-2026-02-01T123456Z'));
});

test('one that fails is logged, and the next look tries again', async () => {
  store.upsertImage(someImage());
  writeFileSync(dir.paths.snapshotsDir, 'in the way');
  const { log, warnings } = listening();
  const deps = { collection, source: store, log, version: 'test', intervalMs: DAY_MS };
  await startPeriodicSnapshots(deps)();
  assert.deepEqual(warnings, ['could not take a snapshot of the state']);
  rmSync(dir.paths.snapshotsDir);
  await startPeriodicSnapshots(deps)();
  assert.equal(warnings.length, 1);
  assert.equal(refs().length, 2);
});

test('an interval of 0 means never', async () => {
  store.upsertImage(someImage());
  const deps = { collection, source: store, log: NO_LOG, version: 'test', intervalMs: 0 };
  await startPeriodicSnapshots(deps)();
  assert.deepEqual(refs(), []);
});

/** A database of an earlier program of ours, at `level`. */
function oldDatabase(level: number): string {
  const path = join(dir.paths.stateDir, 'old.db');
  databaseAt(MIGRATIONS, level, path).close();
  chmodSync(path, 0o600);
  return path;
}

test('before the first migration of a database of ours: what it was', async () => {
  const path = oldDatabase(101);
  const { log, warnings } = listening();
  const before = new MigrationSnapshot({ collection, log, version: 'test' });
  openStore(path, { beforeFirst: before.beforeFirst }).close();
  assert.deepEqual(refs(), [], 'not before it can wait for the disk');
  await before.keep();
  await before.keep();
  assert.deepEqual(warnings, []);
  const [ref = '', latest] = refs();
  assert.match(ref, /^auto-before-migration-102-\d{4}-\d\d-\d\dT\d{6}Z$/);
  assert.equal(latest, 'latest');
  const [entry] = await collection.list();
  assert.equal(entry?.manifest?.db_migration_version, 101);
});

test('a database whose schema is not one of ours: a warning, and the migration goes on', async () => {
  const path = oldDatabase(3);
  const database = new DatabaseSync(path);
  database.exec('CREATE TABLE guest_sessions (id TEXT)');
  database.close();
  const { log, warnings } = listening();
  const before = new MigrationSnapshot({ collection, log, version: 'test' });
  openStore(path, { beforeFirst: before.beforeFirst }).close();
  await before.keep();
  assert.deepEqual(warnings, [
    'no snapshot before the migration; a copy of the database is kept as state.db.pre-100',
  ]);
  assert.deepEqual(refs(), []);
});

test('a new database has nothing before its first migration; a full disk is no reason not to migrate', async () => {
  const { log, warnings } = listening();
  const before = new MigrationSnapshot({ collection, log, version: 'test' });
  openStore(join(dir.paths.stateDir, 'new.db'), { beforeFirst: before.beforeFirst }).close();
  await before.keep();
  assert.deepEqual([refs(), warnings], [[], []]);
  const path = oldDatabase(101);
  openStore(path, { beforeFirst: before.beforeFirst }).close();
  writeFileSync(dir.paths.snapshotsDir, 'in the way');
  await before.keep();
  assert.deepEqual(warnings, ['could not keep the snapshot taken before the migration']);
});
