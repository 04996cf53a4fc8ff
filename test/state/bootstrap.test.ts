/** Restoring into place: consent, targets, migration, what is kept, cancellation. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { bootstrap } from '../../src/state/bootstrap.ts';
import { BOOTSTRAP_STEPS, type BootstrapStep } from '../../src/state/bootstrap-steps.ts';
import { exportState } from '../../src/state/export.ts';
import { isFresh } from '../../src/state/fresh.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { migrate } from '../../src/store/migrations/run.ts';
import { openDatabase } from '../../src/store/open.ts';
import {
  dumpDigest,
  fill,
  fingerprint,
  listingOf,
  makeStates,
  type OldState,
  resetTo,
  restoreInto,
  type Snapshot,
  startAndLook,
  type States,
} from './restore-states.ts';

const LATEST = MIGRATIONS.at(-1)?.id ?? 0;

let root = '';
let dir = '';
let path = '';
let states: States;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'bootstrap-'));
  states = makeStates(join(root, 'states'));
});
after(() => rmSync(root, { recursive: true }));

let cases = 0;
beforeEach(() => {
  cases += 1;
  dir = join(root, `case-${cases}`);
  path = join(dir, 'state.db');
});

function begin(old: OldState): void {
  resetTo(join(states.dir, old), dir);
}

function assertUntouched(old: OldState): void {
  assert.deepEqual(fingerprint(dir), fingerprint(join(states.dir, old)));
}

/** A snapshot of a database that is at an older migration. */
function snapshotAt(level: number): Snapshot {
  const file = join(root, `level-${level}/state.db`);
  const database = openDatabase(file);
  migrate(
    database,
    file,
    MIGRATIONS.filter(({ id }) => id <= level),
  );
  database.exec(`
    INSERT INTO images (id, name, rootfs_path, kernel_path, created_at, updated_at)
      VALUES ('i', 'older', '/r', '/k', '2026-01-31T12:00:00.000Z', '2026-01-31T12:00:00.000Z');
    PRAGMA user_version = 2000;
  `);
  const { data, manifest, manifestBytes } = exportState(database, {
    migrations: MIGRATIONS,
    version: '1.0.0',
    encoding: 'zstd',
    createdAt: '2026-01-31T12:00:00.000Z',
  });
  database.close();
  assert.equal(manifest.db_migration_version, level);
  return { data, manifestBytes, digest: manifest.checksum };
}

test('a restore tells what it put there and what it replaced', async () => {
  begin('crashed');
  const restored = await restoreInto(dir, states.snapshot, true);
  assert.equal(restored.digest, states.snapshot.digest);
  assert.equal(restored.controlVersion, 1000n);
  assert.equal(restored.migrationVersion, LATEST);
  assert.deepEqual(restored.tableCounts, { images: 1, schema_migrations: MIGRATIONS.length, vms: 3 });
  assert.equal(restored.previousProblem, null);
  assert.match(restored.previous ?? '', /state\.db\.pre-restore-\d{8}T\d{6}Z$/);
  assert.equal(statSync(path).mode & 0o7777, 0o600);
});

test('what is kept is the old state, un-checkpointed rows included, as one private file', async () => {
  begin('crashed');
  const { previous } = await restoreInto(dir, states.snapshot, true);
  assert.equal(statSync(previous ?? '').mode & 0o7777, 0o600);
  assert.equal(dumpDigest(previous ?? ''), states.oldDigests.crashed);
});

test('restores within one second keep each what they replaced', async () => {
  begin('clean');
  const kept = new Set<string | null>();
  for (let i = 0; i < 3; i += 1) kept.add((await restoreInto(dir, states.snapshot, true)).previous);
  assert.equal(kept.size, 3);
  assert.equal(readdirSync(dir).filter((name) => name.includes('.pre-restore-')).length, 3);
});

test('a directory that does not exist is made', async () => {
  await restoreInto(join(dir, 'new'), states.snapshot, false);
  assert.equal(statSync(join(dir, 'new')).mode & 0o7777, 0o700);
  assert.equal(dumpDigest(join(dir, 'new/state.db')), states.snapshot.digest);
});

test('without consent a database stays, and the error has the command that replaces it', async () => {
  begin('clean');
  assert.equal(isFresh(path), false);
  await assert.rejects(restoreInto(dir, states.snapshot, false, { source: '/with space/a snapshot' }), {
    name: 'ErrNotFresh',
    message: `${path} holds 3 VMs and 1 image (migration version ${LATEST}, control version 5)`,
    hint: /: banger state bootstrap '\/with space\/a snapshot' --force$/,
  });
  assertUntouched('clean');
});

test('what cannot be read is not fresh either; with force it is kept as it is, and the result says why', async () => {
  begin('damaged');
  await assert.rejects(restoreInto(dir, states.snapshot, false), {
    name: 'ErrNotFresh',
    message: `${path} cannot be read (file is not a database)`,
  });
  assertUntouched('damaged');
  const { previous, previousProblem } = await restoreInto(dir, states.snapshot, true);
  assert.equal(previousProblem, 'file is not a database');
  for (const suffix of ['', '-wal']) {
    const was = readFileSync(join(states.dir, `damaged/state.db${suffix}`));
    assert.ok(readFileSync(previous + suffix).equals(was));
  }
});

test('a log beside an empty database is kept, not thrown away as SQLite would', async () => {
  begin('orphan-wal');
  writeFileSync(path, '', { mode: 0o600 });
  const log = readFileSync(`${path}-wal`);
  await assert.rejects(restoreInto(dir, states.snapshot, false), { name: 'ErrNotFresh' });
  const { previous } = await restoreInto(dir, states.snapshot, true);
  assert.ok(readFileSync(`${previous}-wal`).equals(log));
  assert.equal(dumpDigest(path), states.snapshot.digest);
});

test('companions that mean nothing stand in nobody’s way and do not stay', async () => {
  begin('clean');
  spawnSync('sqlite3', [path, 'PRAGMA journal_mode = DELETE']);
  writeFileSync(`${path}-shm`, 'an index of a log that is gone');
  await restoreInto(dir, states.snapshot, true);
  assert.deepEqual(listingOf(dir), ['state.db', 'state.db.pre-restore']);
  begin('empty');
  for (const suffix of ['-wal', '-shm', '-journal']) writeFileSync(path + suffix, '');
  assert.equal(isFresh(path), true);
  await restoreInto(dir, states.snapshot, false);
  assert.deepEqual(listingOf(dir), ['state.db']);
});

test('a restore settles an unfinished one, and sweeps what killed ones left, before its own', async () => {
  begin('crashed');
  const child = spawnSync(
    process.execPath,
    [join(import.meta.dirname, 'restore-child.ts'), dir, states.dir, 'force', 'recheck'],
    { encoding: 'utf8' },
  );
  assert.equal(child.signal, 'SIGKILL', child.stderr);
  mkdirSync(join(dir, '.state.db.tmp-4194305-1-0123456789ab'));
  const lockPath = join(root, 'elsewhere.lock');
  await restoreInto(dir, states.snapshot, true, { lockPath });
  assert.deepEqual(
    readdirSync(dir).filter((name) => name.startsWith('.') || name.endsWith('.restore-plan')),
    [],
  );
  assert.equal(readdirSync(dir).filter((name) => name.includes('.pre-restore-')).length, 1);
});

test('a control version goes back only with a flag that names both numbers', async () => {
  begin('absent');
  fill(path, 'later', 1001);
  const before = fingerprint(dir);
  const message = /its control version would go back from 1001 to 1000$/;
  for (const allowRollback of [[], ['1000:1001'], ['1001:999'], [`${LATEST}:${LATEST}`]]) {
    await assert.rejects(restoreInto(dir, states.snapshot, true, { allowRollback, source: 'latest' }), {
      name: 'ErrNotFresh',
      message,
      hint: /: banger state bootstrap latest --force --allow-rollback 1001:1000$/,
    });
    assert.deepEqual(fingerprint(dir), before);
  }
  await assert.rejects(restoreInto(dir, states.snapshot, false, { allowRollback: ['1001:1000'] }), {
    name: 'ErrNotFresh',
  });
  await restoreInto(dir, states.snapshot, true, { allowRollback: ['1001:1000'] });
  assert.equal(dumpDigest(path), states.snapshot.digest);
});

test('so does a migration version, be it one that this program does not know', async () => {
  begin('clean');
  const sql = "INSERT INTO schema_migrations VALUES (9150, 'later', '')";
  assert.equal(spawnSync('sqlite3', [path, sql]).status, 0);
  await assert.rejects(restoreInto(dir, states.snapshot, true), {
    name: 'ErrNotFresh',
    message: new RegExp(`migration version would go back from 9150 to ${LATEST}`),
    hint: new RegExp(`--force --allow-rollback 9150:${LATEST}$`),
  });
  const { previous } = await restoreInto(dir, states.snapshot, true, { allowRollback: [`9150:${LATEST}`] });
  const kept = spawnSync('sqlite3', [previous ?? '', 'SELECT max(id) FROM schema_migrations'], {
    encoding: 'utf8',
  });
  assert.equal(kept.stdout, '9150\n');
  assert.equal(dumpDigest(path), states.snapshot.digest);
});

test('an older snapshot is migrated before it is in place, and no copy of it stays', async () => {
  begin('clean');
  const older = snapshotAt(101);
  const restored = await restoreInto(dir, older, true, { allowRollback: [`${LATEST}:101`] });
  assert.equal(restored.migrationVersion, LATEST);
  assert.equal(restored.digest, older.digest);
  const names = spawnSync('sqlite3', [path, 'SELECT name FROM images'], { encoding: 'utf8' });
  assert.equal(names.stdout, 'older\n');
  assert.deepEqual(listingOf(dir), ['state.db', 'state.db.pre-restore']);
});

test('a migration that fails, or that loses a row, leaves what was there', async () => {
  begin('crashed');
  const attempt = async (sql: string): Promise<unknown> =>
    await bootstrap(
      states.snapshot.data,
      states.snapshot.manifestBytes,
      path,
      (database) => database.exec(sql),
      true,
      { migrations: MIGRATIONS, lockPath: join(dir, 'bangerd.lock'), holder: { pid: process.pid } },
    );
  await assert.rejects(attempt('nonsense'), { code: 'internal' });
  assertUntouched('crashed');
  await assert.rejects(attempt("DELETE FROM vms WHERE name = 'new-a'"), {
    code: 'io_error',
    message: /vms has 2 rows, the snapshot 3/,
  });
  assertUntouched('crashed');
  await assert.rejects(attempt('PRAGMA foreign_keys = OFF; UPDATE vms SET image_id = 1'), {
    code: 'io_error',
    message: /a row of vms points to none of images/,
  });
  assertUntouched('crashed');
  await assert.rejects(attempt(`DELETE FROM schema_migrations WHERE id = ${LATEST}`), {
    code: 'io_error',
    message: new RegExp(`it is at migration \\d+, not ${LATEST}`),
  });
  assertUntouched('crashed');
});

test('what is not the snapshot that was asked for touches nothing, not even the lock', async () => {
  begin('crashed');
  const digest = `sha256:${'0'.repeat(64)}`;
  await assert.rejects(restoreInto(dir, states.snapshot, true, { digest }), {
    name: 'ErrVerify',
    reason: 'digest',
  });
  const data = Buffer.from(states.snapshot.data);
  data[1000] = (data[1000] ?? 0) ^ 1;
  await assert.rejects(restoreInto(dir, { ...states.snapshot, data }, true), { name: 'ErrVerify' });
  assertUntouched('crashed');
  assert.ok(!readdirSync(dir).includes('bangerd.lock'));
});

/** What must not be followed, replaced or waited for. */
const ODD: Readonly<Record<string, (at: string) => void>> = {
  'a link': (at) => symlinkSync(join(root, 'victim'), at),
  'a dangling link': (at) => symlinkSync(join(root, 'nowhere'), at),
  'a directory': (at) => mkdirSync(at),
  'a FIFO': (at) => assert.equal(spawnSync('mkfifo', [at]).status, 0),
};

for (const [what, make] of Object.entries(ODD)) {
  for (const suffix of ['', '-wal', '-shm', '-journal', '.restore-plan']) {
    test(`${what} as state.db${suffix} is refused and stays`, async () => {
      begin(suffix === '' ? 'absent' : 'clean');
      writeFileSync(join(root, 'victim'), 'untouched');
      make(path + suffix);
      const before = { stat: lstatSync(path + suffix).ino, listing: listingOf(dir) };
      assert.equal(isFresh(path), false);
      for (const force of [false, true]) {
        await assert.rejects(restoreInto(dir, states.snapshot, force), { code: 'permission' });
      }
      assert.deepEqual({ stat: lstatSync(path + suffix).ino, listing: listingOf(dir) }, before);
      if (what === 'a link') assert.equal(readlinkSync(path + suffix), join(root, 'victim'));
      assert.equal(readFileSync(join(root, 'victim'), 'utf8'), 'untouched');
      assert.throws(() => statSync(join(root, 'nowhere')));
    });
  }
}

test('a restore can be cancelled until it changes something, and not after that', async () => {
  const last = BOOTSTRAP_STEPS.indexOf('write_plan');
  for (const [index, step] of BOOTSTRAP_STEPS.entries()) {
    begin('crashed');
    const cancelled = new AbortController();
    // Announced before the step, so the next one is where a cancellation is seen.
    const onStep = (now: BootstrapStep): void => {
      if (now === step) cancelled.abort();
    };
    const attempt = restoreInto(dir, states.snapshot, true, { onStep, signal: cancelled.signal });
    if (index < last) {
      await assert.rejects(attempt, { code: 'cancelled' }, step);
      assertUntouched('crashed');
    } else {
      await attempt;
      assert.equal(dumpDigest(path), states.snapshot.digest);
    }
  }
});

test('of two restores at once one is told of the other', async () => {
  begin('clean');
  const attempts = [1, 2].map(async () => await restoreInto(dir, states.snapshot, true));
  const results = await Promise.allSettled(attempts);
  const reasons = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  );
  assert.equal(reasons.length, 1);
  assert.equal((reasons[0] as { code?: string }).code, 'in_use');
  assert.equal((await startAndLook(dir, 'clean', states)).state, 'new');
  assert.deepEqual(listingOf(dir), ['state.db', 'state.db.pre-restore']);
});

test('a database of 20 MB is restored whole', async () => {
  begin('absent');
  const source = join(dir, 'source.db');
  fill(source, 'large', 1);
  const database = openDatabase(source);
  database.exec(`
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO images (id, name, rootfs_path, kernel_path, created_at, updated_at)
      SELECT 'id-' || i, 'name-' || i, '/' || hex(randomblob(400)), '/k', '', '' FROM n`);
  const { data, manifest, manifestBytes } = exportState(database, {
    migrations: MIGRATIONS,
    version: '1.0.0',
    encoding: 'zstd',
    createdAt: '2026-01-31T12:00:00.000Z',
  });
  database.close();
  const { tableCounts } = await restoreInto(dir, { data, manifestBytes, digest: manifest.checksum }, false);
  assert.equal(tableCounts['images'], 20_001);
  assert.equal(dumpDigest(path), manifest.checksum);
});
