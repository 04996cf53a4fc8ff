import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import {
  addVm,
  databaseAt,
  forge,
  reasonOf,
  smallState,
  snapshotOf,
} from '../../test/helpers/state-fixture.ts';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { migrate } from '../store/migrations/run.ts';
import { openDatabase } from '../store/open.ts';
import { restoreToTempDb } from './restore.ts';
import { type VerifiedSnapshot, verify } from './verify.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'restore-'));
  path = join(dir, 'state.db');
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

using state = smallState();
const SNAPSHOT = snapshotOf(state);
const TEXT = SNAPSHOT.data.toString();
const COUNTS = SNAPSHOT.manifest.table_counts;

function verified(data: Buffer, manifest: Buffer): VerifiedSnapshot {
  return verify(data, manifest, { migrations: MIGRATIONS });
}

function forged(payload: string, change: Partial<SnapshotManifest> = {}): VerifiedSnapshot {
  const { data, manifestBytes } = forge(Buffer.from(payload), { table_counts: COUNTS, ...change });
  return verified(data, manifestBytes);
}

test('a private file of its own, in rollback-journal mode, with nothing beside it', () => {
  restoreToTempDb(verified(SNAPSHOT.data, SNAPSHOT.manifestBytes), path);
  assert.deepEqual(readdirSync(dir), ['state.db']);
  assert.equal(statSync(path).mode & 0o7777, 0o600);
  // Versions for writing and reading: 1 is a rollback journal. https://sqlite.org/fileformat2.html#file_format_version_numbers
  assert.deepEqual([...readFileSync(path).subarray(18, 20)], [1, 1]);
  using database = new DatabaseSync(path);
  assert.equal(database.prepare('PRAGMA integrity_check').get()?.['integrity_check'], 'ok');
  assert.deepEqual(database.prepare('PRAGMA foreign_key_check').all(), []);
  assert.equal(database.prepare('PRAGMA user_version').get()?.['user_version'], 7);
  assert.deepEqual(snapshotOf(database).manifest, SNAPSHOT.manifest);
  database.exec("UPDATE vms SET state = 'running'");
});

test('the stock sqlite3 reads it', () => {
  restoreToTempDb(verified(SNAPSHOT.data, SNAPSHOT.manifestBytes), path);
  const shell = spawnSync('sqlite3', [path, 'PRAGMA integrity_check; SELECT count(*) FROM vms'], {
    encoding: 'utf8',
  });
  assert.equal(shell.stdout, 'ok\n2\n');
});

test('a snapshot of an older level comes back at that level, and is migrated from there', () => {
  for (const level of [1, 3, 101]) {
    using old = databaseAt(MIGRATIONS, level);
    old.exec(
      "INSERT INTO images (id, name, rootfs_path, kernel_path, created_at, updated_at) VALUES ('i', 'debian', '/r', '/k', '', '')",
    );
    const snapshot = snapshotOf(old);
    assert.equal(snapshot.manifest.db_migration_version, level);
    const file = `${path}.${level}`;
    restoreToTempDb(verified(snapshot.data, snapshot.manifestBytes), file);
    using database = openDatabase(file);
    assert.equal(snapshotOf(database).manifest.checksum, snapshot.manifest.checksum);
    migrate(database, file, MIGRATIONS);
    assert.equal(snapshotOf(database).manifest.db_migration_version, MIGRATIONS.at(-1)?.id);
    assert.equal(database.prepare('SELECT count(*) AS n FROM images').get()?.['n'], 1);
  }
});

const HOSTILE: Readonly<Record<string, readonly [string, string]>> = {
  'a value the dump would not have: a sample': [
    TEXT.replace(`,'{}','{}','{}');\n`, `,'{}','{"cpuMs":1}','{}');\n`),
    'redump',
  ],
  'a type the column does not keep': [TEXT.replace("VALUES('db','db',", "VALUES('db',7,"), 'redump'],
  'a history that is not ours': [TEXT.replace("VALUES(1,'baseline'", "VALUES(1,'nothing'"), 'redump'],
  'a NULL where there must be none': [TEXT.replace("VALUES('db','db',", "VALUES('db',NULL,"), 'rows'],
  'a name twice': [TEXT.replace("VALUES('db','db',", "VALUES('db','web',"), 'rows'],
  'a row less than said': [TEXT.replace(/INSERT INTO "vms" VALUES\('db'.*\n/, ''), 'rows'],
  'a key twice': [TEXT.replace(/(INSERT INTO "vms" VALUES\('db'.*\n)/, '$1$1'), 'rows'],
  'another statement': [
    TEXT.replace('INSERT INTO "images"', 'ATTACH DATABASE \'x\' AS x;\nINSERT INTO "images"'),
    'grammar',
  ],
  'another table': [TEXT.replace('CREATE TABLE vms', 'CREATE TABLE more(a);\nCREATE TABLE vms'), 'schema'],
};
for (const [name, [payload, reason]] of Object.entries(HOSTILE)) {
  test(`refused without making a file: ${name}`, () => {
    assert.notEqual(payload, TEXT);
    assert.equal(
      reasonOf(() => restoreToTempDb(forged(payload), path)),
      reason,
    );
    assert.deepEqual(readdirSync(dir), []);
  });
}

test('refused: counts of other tables than there are', () => {
  assert.equal(
    reasonOf(() => restoreToTempDb(forged(TEXT, { table_counts: {} }), path)),
    'rows',
  );
  const more = forged(TEXT, { table_counts: { ...COUNTS, others: 0 } });
  assert.equal(
    reasonOf(() => restoreToTempDb(more, path)),
    'rows',
  );
  const prototype = forged(TEXT, { table_counts: { ...COUNTS, constructor: 1 } });
  assert.equal(
    reasonOf(() => restoreToTempDb(prototype, path)),
    'rows',
  );
});

test('a target that is there already stays as it is', () => {
  const snapshot = verified(SNAPSHOT.data, SNAPSHOT.manifestBytes);
  writeFileSync(path, 'precious');
  assert.throws(() => restoreToTempDb(snapshot, path), { code: 'already_exists' });
  assert.equal(readFileSync(path, 'utf8'), 'precious');
  const link = join(dir, 'link');
  symlinkSync(join(dir, 'elsewhere'), link);
  assert.throws(() => restoreToTempDb(snapshot, link), { code: 'already_exists' });
  assert.ok(!existsSync(join(dir, 'elsewhere')));
  assert.throws(() => restoreToTempDb(snapshot, join(dir, 'no', 'state.db')), { code: 'io_error' });
});

test('a file that cannot be written whole is removed', () => {
  const snapshot = verified(SNAPSHOT.data, SNAPSHOT.manifestBytes);
  const program = `
    import { readFileSync } from 'node:fs';
    import { verify } from '${import.meta.resolve('./verify.ts')}';
    import { restoreToTempDb } from '${import.meta.resolve('./restore.ts')}';
    import { MIGRATIONS } from '${import.meta.resolve('../store/migrations/list.ts')}';
    process.on('SIGXFSZ', () => {});
    const snapshot = verify(readFileSync('data'), readFileSync('manifest'), { migrations: MIGRATIONS });
    try { restoreToTempDb(snapshot, 'state.db') } catch (error) { console.log(error.code, error.message) }`;
  writeFileSync(join(dir, 'data'), snapshot.payload);
  writeFileSync(join(dir, 'manifest'), SNAPSHOT.manifestBytes);
  // No file of more than 16 blocks of 512 bytes: less than the database.
  const command = ['-c', 'ulimit -f 16; exec "$0" --input-type=module -e "$1"', process.execPath, program];
  const child = spawnSync('sh', command, { cwd: dir, encoding: 'utf8' });
  assert.equal(child.stdout, 'io_error cannot write state.db: file too large\n', child.stderr);
  assert.deepEqual(readdirSync(dir).sort(), ['data', 'manifest']);
});

test('a reference to an image that is not there is not for this library to judge', () => {
  using database = smallState();
  database.exec('PRAGMA foreign_keys = OFF');
  addVm(database, 'orphan', { image_id: 'gone' });
  const snapshot = snapshotOf(database);
  restoreToTempDb(verified(snapshot.data, snapshot.manifestBytes), path);
  using restored = new DatabaseSync(path);
  assert.equal(restored.prepare('PRAGMA foreign_key_check').all().length, 1);
});
