import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import { BangerError } from '../../core/errors.ts';
import { openDatabase } from '../open.ts';
import { openStore } from '../store.ts';
import { MIGRATIONS } from './list.ts';
import type { Migration } from './migration.ts';
import { migrate } from './run.ts';

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'migrate-'));
  path = join(dir, 'state.db');
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

/** A database as some program before this one left it. */
function existing(...statements: string[]): void {
  writeFileSync(path, '', { mode: 0o600 });
  using database = new DatabaseSync(path);
  for (const statement of statements) database.exec(statement);
}

const IMAGES = `CREATE TABLE images (id TEXT PRIMARY KEY, name TEXT, managed INTEGER, artifact_dir TEXT, rootfs_path TEXT,
  work_seed_path TEXT, kernel_path TEXT, initrd_path TEXT, modules_dir TEXT, build_size TEXT,
  seeded_ssh_public_key_fingerprint TEXT, created_at TEXT, updated_at TEXT)`;
const VMS = `CREATE TABLE vms (id TEXT PRIMARY KEY, name TEXT UNIQUE, image_id TEXT REFERENCES images(id), guest_ip TEXT,
  state TEXT, created_at TEXT, updated_at TEXT, last_touched_at TEXT, spec_json TEXT, runtime_json TEXT, stats_json TEXT)`;
const HISTORY =
  'CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)';

function query(file: string, sql: string): string {
  const shell = spawnSync('sqlite3', [file, sql], { encoding: 'utf8' });
  assert.equal(shell.status, 0, shell.stderr);
  return shell.stdout.trim();
}

const columns = (table: string): string[] =>
  query(path, `SELECT name FROM pragma_table_info('${table}') ORDER BY cid`).split('\n');

const OUR_IDS = MIGRATIONS.map((migration) => migration.id).join('\n');

test('a new database has the shared history, the shared columns, and no copy beside it', () => {
  openStore(path).close();
  assert.equal(query(path, 'SELECT id FROM schema_migrations ORDER BY id'), OUR_IDS);
  assert.match(OUR_IDS, /^1\n2\n3\n100\n/);
  assert.equal(
    columns('vms').join(' '),
    'id name image_id guest_ip state created_at updated_at last_touched_at spec_json runtime_json stats_json ' +
      'workspace_json',
  );
  assert.equal(
    columns('images').join(' '),
    'id name managed artifact_dir rootfs_path work_seed_path kernel_path initrd_path modules_dir build_size ' +
      'seeded_ssh_public_key_fingerprint created_at updated_at',
  );
  assert.equal(
    query(path, "SELECT count(*) FROM schema_migrations WHERE applied_at LIKE '____-__-__T%.___Z'"),
    String(MIGRATIONS.length),
  );
  assert.deepEqual(readdirSync(dir), ['state.db']);
});

test('two new databases have one schema, and opening again changes nothing', () => {
  const schema = 'SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema ORDER BY name)';
  openStore(path).close();
  openStore(join(dir, 'other.db')).close();
  assert.equal(query(path, schema), query(join(dir, 'other.db'), schema));
  const before = query(path, 'SELECT group_concat(applied_at) FROM schema_migrations');
  openStore(path).close();
  assert.equal(query(path, 'SELECT group_concat(applied_at) FROM schema_migrations'), before);
  assert.ok(!readdirSync(dir).some((name) => name.includes('.pre-')));
});

test('a database of the Go program keeps its rows, and what it was is kept as .pre-<first pending id>', () => {
  existing(
    IMAGES,
    VMS,
    HISTORY,
    "INSERT INTO schema_migrations VALUES (1, 'baseline', '2026-04-20T00:00:00Z'), (2, 'drop_images_docker', '2026-04-26T00:00:00Z')",
    "INSERT INTO images VALUES ('i1', 'debian', 1, '/a', '/a/r', NULL, '/k', '', '', '8G', NULL, '2026-04-26T00:00:00Z', '2026-04-26T00:00:00Z')",
  );
  using store = openStore(path);
  assert.equal(store.getImageByName('debian')?.rootfsPath, '/a/r');
  assert.ok(columns('vms').includes('workspace_json'));
  const copy = `${path}.pre-3`;
  assert.equal(query(copy, 'SELECT group_concat(id) FROM schema_migrations'), '1,2');
  assert.equal(query(copy, 'SELECT name FROM images'), 'debian');
  assert.equal(statSync(copy).mode & 0o777, 0o600);
});

test('a database older than the history is taken in', () => {
  existing(
    IMAGES.replace('created_at TEXT', 'docker INTEGER NOT NULL, packages_path TEXT, created_at TEXT'),
    VMS,
  );
  openStore(path).close();
  assert.ok(!columns('images').includes('docker'));
  assert.ok(!columns('images').includes('packages_path'));
  assert.ok(columns('vms').includes('workspace_json'));
  assert.equal(
    query(`${path}.pre-1`, "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'"),
    'images,vms',
  );
});

test('id 2 in its first meaning: the column it left goes all the same', () => {
  existing(
    IMAGES.replace('created_at TEXT', 'docker INTEGER NOT NULL, created_at TEXT'),
    `${VMS.slice(0, -1)}, workspace_json TEXT)`,
    HISTORY,
    "INSERT INTO schema_migrations VALUES (1, 'baseline', 'x'), (2, 'drop_images_packages_path', 'x'), (3, 'vms_workspace_json', 'x')",
  );
  openStore(path).close();
  assert.ok(!columns('images').includes('docker'));
});

test('names or addresses that are there twice stop the migration, which is undone, and the copy stays', () => {
  existing(
    IMAGES,
    VMS.replace('name TEXT UNIQUE', 'name TEXT'),
    "INSERT INTO vms (id, name, guest_ip) VALUES ('a', 'dev', ''), ('b', 'dev', '')",
  );
  assert.throws(
    () => openStore(path),
    /migration 101 \(unique_names_and_addresses\) .* failed: UNIQUE constraint/,
  );
  assert.equal(query(path, 'SELECT max(id) FROM schema_migrations'), '100');
  assert.equal(
    query(path, "SELECT count(*) FROM sqlite_schema WHERE name IN ('images_name', 'vms_name')"),
    '0',
  );
  assert.equal(query(`${path}.pre-1`, 'SELECT count(*) FROM vms'), '2');
});

test('a newer database is refused with both versions and stays as it is', () => {
  openStore(path).close();
  query(path, "INSERT INTO schema_migrations VALUES (999, 'future', 'x'), (50, 'also unknown', 'x')");
  const before = readFileSync(path);
  assert.throws(
    () => openStore(path),
    (error) =>
      error instanceof BangerError &&
      error.code === 'version_mismatch' &&
      error.message.includes('schema version 999') &&
      error.message.includes('(50, 999)') &&
      error.message.includes(`knows schema version ${MIGRATIONS.at(-1)?.id}`),
  );
  assert.deepEqual(readFileSync(path), before);
  assert.deepEqual(readdirSync(dir), ['state.db']);
});

test('a SQLite database of another program is refused', () => {
  existing('CREATE TABLE images (x)', 'CREATE TABLE notes (y)');
  assert.throws(() => openStore(path), BangerError);
});

test('a migration that fails is undone with its row; those before it stay', () => {
  const good: Migration = { id: 900, name: 'good', apply: (db) => db.exec('CREATE TABLE good (x)') };
  const bad: Migration = {
    id: 901,
    name: 'bad',
    apply: (db) => {
      db.exec('CREATE TABLE half (x)');
      throw new Error('no');
    },
  };
  using database = openDatabase(path);
  assert.throws(
    () => migrate(database, path, [...MIGRATIONS, good, bad]),
    /migration 901 \(bad\) of .* failed: no/,
  );
  assert.equal(query(path, 'SELECT max(id) FROM schema_migrations'), '900');
  assert.equal(
    query(path, "SELECT group_concat(name) FROM sqlite_schema WHERE name IN ('good', 'half')"),
    'good',
  );
  assert.equal(database.isTransaction, false);
});

test('the copy is replaced by the next attempt and never half there', () => {
  openStore(path).close();
  const next: Migration = { id: 900, name: 'next', apply: (db) => db.exec('CREATE TABLE next (x)') };
  writeFileSync(`${path}.pre-900`, 'left by an attempt of long ago');
  using database = openDatabase(path);
  migrate(database, path, [...MIGRATIONS, next]);
  assert.equal(
    query(`${path}.pre-900`, 'PRAGMA integrity_check; SELECT max(id) FROM schema_migrations'),
    `ok\n${MIGRATIONS.at(-1)?.id}`,
  );
  assert.ok(!readdirSync(dir).some((name) => name.includes('.tmp-')));
});

test('ids that are doubled or out of order are a programmer error', () => {
  using database = openDatabase(path);
  const [first, second] = MIGRATIONS as [Migration, Migration];
  assert.throws(() => migrate(database, path, [first, first]), /out of order or twice/);
  assert.throws(() => migrate(database, path, [second, first]), /out of order or twice/);
  assert.equal(query(path, 'SELECT count(*) FROM sqlite_schema'), '0');
});

test('migrations that were released are not edited', () => {
  assert.deepEqual(
    MIGRATIONS.map(({ id, name }) => `${id} ${name}`),
    [
      '1 baseline',
      '2 drop_images_docker',
      '3 vms_workspace_json',
      '100 repair_columns',
      '101 unique_names_and_addresses',
      '102 one_schema_text',
    ],
  );
});

const schemaOf = (file: string): string =>
  query(
    file,
    'SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name)',
  );

test('whatever the history, the schema is the same text, and the tables of others stay', () => {
  const fresh = join(dir, 'fresh.db');
  openStore(fresh).close();
  existing(
    IMAGES.replace('created_at TEXT', 'docker INTEGER NOT NULL, packages_path TEXT, created_at TEXT'),
    VMS,
    'CREATE TABLE guest_sessions (id TEXT PRIMARY KEY, vm_id TEXT NOT NULL)',
    'CREATE INDEX of_the_user ON vms(state)',
    'CREATE TABLE notes (y)',
  );
  openStore(path).close();
  query(path, 'DROP TABLE notes');
  assert.equal(schemaOf(path), schemaOf(fresh));
});

test('rows of the Go program come through, with what stands for a NULL', () => {
  existing(
    IMAGES,
    VMS,
    "INSERT INTO images (id, name) VALUES ('i', 'debian')",
    "INSERT INTO vms VALUES ('b', 'web', 'i', '172.16.0.2', 'stopped', 'c', 'u', 't', '{\"x\":1}', '{}', '{}')",
    "INSERT INTO vms (id, name, image_id) VALUES ('a', 'dev', 'i')",
  );
  openStore(path).close();
  assert.equal(query(path, 'SELECT * FROM images'), 'i|debian|0||||||||||');
  assert.equal(
    query(path, 'SELECT * FROM vms ORDER BY id'),
    'a|dev|i||||||{}|{}|{}|{}\nb|web|i|172.16.0.2|stopped|c|u|t|{"x":1}|{}|{}|{}',
  );
  assert.equal(query(path, 'SELECT work_seed_path IS NULL FROM images'), '1');
  assert.equal(query(path, 'PRAGMA foreign_key_check; PRAGMA integrity_check'), 'ok');
  assert.throws(() => {
    using database = openDatabase(path);
    database.exec("UPDATE vms SET image_id = 'other'");
  }, /FOREIGN KEY/);
});

test('a VM whose image is not there stops the migration by its name, and the copy stays', () => {
  existing(
    IMAGES,
    VMS,
    'PRAGMA foreign_keys = OFF',
    "INSERT INTO vms (id, name, image_id, guest_ip) VALUES ('a', 'dev', 'gone', '')",
  );
  assert.throws(
    () => openStore(path),
    /migration 102 \(one_schema_text\) .* failed: the image of VM dev is not in the database/,
  );
  assert.equal(query(path, 'SELECT max(id) FROM schema_migrations'), '101');
  assert.equal(query(path, 'SELECT name FROM vms'), 'dev');
  assert.equal(query(`${path}.pre-1`, 'SELECT name FROM vms'), 'dev');
});

test('the history keeps when each migration ran', () => {
  existing(
    IMAGES,
    VMS,
    HISTORY,
    "INSERT INTO schema_migrations VALUES (1, 'baseline', 'long ago'), (2, 'other', 'then')",
  );
  openStore(path).close();
  assert.equal(
    query(path, 'SELECT id, name, applied_at FROM schema_migrations WHERE id < 3'),
    '1|baseline|long ago\n2|other|then',
  );
});
