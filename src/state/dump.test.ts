import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, test } from 'node:test';
import {
  addImage,
  addVm,
  databaseAt,
  ODD_MIGRATIONS,
  smallState,
  snapshotOf,
} from '../../test/helpers/state-fixture.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { openStore } from '../store/store.ts';
import { canonicalDump, dumpInto, MAX_ROW_BYTES } from './dump.ts';
import { schemaAt } from './state-schema.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dump-'));
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const SCHEMA = schemaAt(MIGRATIONS, MIGRATIONS.at(-1)?.id ?? 0);
const digestOf = (database: DatabaseSync): string => snapshotOf(database).manifest.checksum;

function sqlite3(input: string | Buffer, ...args: string[]): void {
  const shell = spawnSync('sqlite3', ['-bail', ...args], { input });
  assert.equal(shell.status, 0, shell.stderr.toString());
  assert.equal(shell.stderr.toString(), '');
}

test('a dump is the schema, the rows in order of their keys, and the indexes', () => {
  using database = smallState();
  const { payload, counts } = canonicalDump(database, SCHEMA);
  const lines = payload.toString().split('\n');
  assert.deepEqual(lines.slice(0, 3), [
    'PRAGMA foreign_keys=OFF;',
    'BEGIN TRANSACTION;',
    'CREATE TABLE images (',
  ]);
  assert.deepEqual(
    lines.filter((line) => /^(?:CREATE|INSERT)/.test(line)).map((line) => line.slice(0, 40)),
    [
      'CREATE TABLE images (',
      'CREATE TABLE schema_migrations (',
      'CREATE TABLE vms (',
      `INSERT INTO "images" VALUES('debian','debian',1`.slice(0, 40),
      ...MIGRATIONS.map(({ id, name }) =>
        `INSERT INTO "schema_migrations" VALUES(${id},'${name}'`.slice(0, 40),
      ),
      `INSERT INTO "vms" VALUES('db','db','debi`,
      `INSERT INTO "vms" VALUES('web','web','debian'`.slice(0, 40),
      'CREATE UNIQUE INDEX images_name ON images(name);'.slice(0, 40),
      'CREATE UNIQUE INDEX vms_guest_ip ON vms(guest_ip)'.slice(0, 40),
      'CREATE INDEX vms_image_id ON vms(image_id);'.slice(0, 40),
      'CREATE UNIQUE INDEX vms_name ON vms(name);'.slice(0, 40),
    ],
  );
  assert.deepEqual(lines.slice(-2), ['COMMIT;', '']);
  assert.deepEqual(counts, { images: 1, schema_migrations: MIGRATIONS.length, vms: 2 });
});

test('five build histories, one digest', () => {
  const digests = new Map<string, string>();
  using fresh = smallState();
  digests.set('fresh', digestOf(fresh));

  const goPath = join(dir, 'go.db');
  writeFileSync(goPath, '', { mode: 0o600 });
  sqlite3(GO_DATABASE, goPath);
  openStore(goPath).close();
  using migrated = new DatabaseSync(goPath);
  digests.set('of the Go program, migrated', digestOf(migrated));

  using churned = databaseAt();
  addImage(churned, 'other');
  addVm(churned, 'web', { id: 'x', image_id: 'other', state: 'running', guest_ip: '10.0.0.2' });
  addVm(churned, 'gone', { image_id: 'other' });
  addImage(churned, 'debian', 'debian');
  churned.exec("DELETE FROM vms; DELETE FROM images WHERE id = 'other'");
  addVm(churned, 'web', { state: 'error', workspace_json: '{"guestPath":"/workspace/it\'s größe 🚀"}' });
  addVm(churned, 'db', { runtime_json: '{}', last_touched_at: '2027', stats_json: '{"cpuMs":99}' });
  churned.exec("UPDATE vms SET state = 'stopped'");
  digests.set('churned', digestOf(churned));

  const vacuumed = join(dir, 'vacuumed.db');
  churned.exec(`VACUUM INTO '${vacuumed}'`);
  using afterVacuum = new DatabaseSync(vacuumed);
  afterVacuum.exec('PRAGMA page_size = 16384; PRAGMA auto_vacuum = INCREMENTAL; VACUUM');
  digests.set('vacuumed to another page size', digestOf(afterVacuum));

  const loaded = join(dir, 'loaded.db');
  sqlite3(snapshotOf(fresh).data, loaded);
  using afterLoad = new DatabaseSync(loaded);
  digests.set('loaded by the stock sqlite3', digestOf(afterLoad));

  for (const [history, digest] of digests) assert.equal(digest, digests.get('fresh'), history);
});

/** The same state, as the Go program had it after its third migration, with other times and names of migrations. */
const GO_DATABASE = `
  CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL);
  CREATE TABLE images (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, managed INTEGER NOT NULL DEFAULT 0,
    artifact_dir TEXT, rootfs_path TEXT NOT NULL, work_seed_path TEXT, kernel_path TEXT NOT NULL, initrd_path TEXT,
    modules_dir TEXT, build_size TEXT, seeded_ssh_public_key_fingerprint TEXT, created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL);
  CREATE TABLE vms (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL, guest_ip TEXT NOT NULL,
    state TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_touched_at TEXT NOT NULL,
    spec_json TEXT NOT NULL, runtime_json TEXT NOT NULL, stats_json TEXT NOT NULL DEFAULT '{}',
    workspace_json TEXT NOT NULL DEFAULT '{}', FOREIGN KEY(image_id) REFERENCES images(id) ON DELETE RESTRICT);
  CREATE TABLE guest_sessions (id TEXT PRIMARY KEY, vm_id TEXT NOT NULL);
  INSERT INTO schema_migrations VALUES (1,'baseline','2026-04-01T00:00:00Z'),(2,'drop_images_packages_path','x'),(3,'w','x');
  INSERT INTO images VALUES ('debian','debian',1,'/images/debian','/images/debian/root.qcow2',NULL,'/kernels/k/vmlinux',
    NULL,'','',NULL,'2026-01-01T00:00:00Z','2026-01-01T00:00:00Z');
  INSERT INTO vms VALUES
    ('web','web','debian','','stopped','2026-01-02T00:00:00Z','2026-01-03T00:00:00Z','2026-05-05T00:00:00Z',
      '{"vcpus":2}','{"pid":4711}','{}','{"guestPath":"/workspace/it''s größe 🚀"}'),
    ('db','db','debian','','stopped','2026-01-02T00:00:00Z','2026-01-03T00:00:00Z','2026-01-02T00:00:00Z',
      '{"vcpus":2}','{}','{}','{}');
`;

test('handles, samples and clocks are left out; what is half made is not', () => {
  using database = smallState();
  const before = digestOf(database);
  database.exec(`UPDATE vms SET stats_json = '{"cpuMs":5}', last_touched_at = '2030-01-01T00:00:00Z';
    UPDATE schema_migrations SET applied_at = 'then', name = 'other'`);
  const runtimes = [
    '{}',
    '',
    'no JSON "pending"',
    '["pending"]',
    '"\\"pending\\""',
    '{"pending":1}',
    '{"a":{"pending":"create"}}',
  ];
  const update = database.prepare('UPDATE vms SET runtime_json = ?');
  for (const runtime of [...runtimes, '{"pending":"other"}', Buffer.from('{"pending":"create"}')]) {
    update.run(runtime);
    assert.equal(digestOf(database), before, String(runtime));
  }
  update.run('{"bootId":"b", "pending":"create"}');
  const creating = digestOf(database);
  update.run('{"pending":"delete"}');
  assert.equal(new Set([before, creating, digestOf(database)]).size, 3);
  assert.match(snapshotOf(database).data.toString(), /,'\{"pending":"delete"\}','\{\}',/);
});

test('each other column, and the order of migrations, is in the digest', () => {
  const columns = [
    'id',
    'name',
    'guest_ip',
    'state',
    'created_at',
    'updated_at',
    'spec_json',
    'workspace_json',
  ];
  const digests = new Set<string>();
  for (const column of columns) {
    using database = smallState();
    database.exec(`UPDATE vms SET ${column} = 'changed' WHERE id = 'web'`);
    digests.add(digestOf(database));
  }
  using database = smallState();
  digests.add(digestOf(database));
  assert.equal(digests.size, columns.length + 1);
});

test('D5: tables whose names end as those of full text indexes are dumped', () => {
  using database = databaseAt(ODD_MIGRATIONS);
  database.exec(`INSERT INTO search_config VALUES ('a', 1); INSERT INTO search_data VALUES ('a', 1, 1);
    INSERT INTO search_content VALUES (1); INSERT INTO search_stat VALUES (1); INSERT INTO search_idx VALUES (1);
    INSERT INTO search_docsize VALUES (1)`);
  const { counts, payload } = canonicalDump(database, schemaAt(ODD_MIGRATIONS, 1));
  for (const name of ['config', 'data', 'content', 'stat', 'idx', 'docsize']) {
    assert.equal(counts[`search_${name}`], 1);
    assert.ok(payload.includes(`INSERT INTO "search_${name}" VALUES(`));
  }
});

test('D10: NUL in a text cuts nothing, wherever the row stands', () => {
  using database = smallState();
  const update = database.prepare('UPDATE vms SET spec_json = ? WHERE id = ?');
  update.run('before\0after', 'web');
  const text = snapshotOf(database).data.toString();
  const bytes = Buffer.from('before\0after').toString('hex').toUpperCase();
  assert.ok(text.includes(`,CAST(X'${bytes}' AS TEXT),`));
  // The row before it in the order of keys is spelled by SQLite, and both spellings are one.
  update.run('before\0after', 'db');
  assert.ok(snapshotOf(database).data.toString().includes(`VALUES('db','db','debian','','stopped'`));
});

test('what SQLite spells and what we spell is the same', () => {
  using database = databaseAt(ODD_MIGRATIONS);
  const values = [
    null,
    0n,
    -(2n ** 63n),
    2n ** 63n - 1n,
    "it's",
    '',
    "''",
    'ä🚀',
    '\r\n\t',
    Buffer.from([0, 255]),
    Buffer.alloc(0),
  ];
  const insert = database.prepare('INSERT INTO loose VALUES (?, ?, ?)');
  for (const [index, value] of values.entries()) insert.run(index, value, value);
  const schema = schemaAt(ODD_MIGRATIONS, 1);
  const fast = canonicalDump(database, schema).payload.toString();
  // A real in the first row sends all rows the long way.
  database.exec('INSERT INTO loose VALUES (-1, 0.5, 0)');
  const slow = canonicalDump(database, schema).payload.toString();
  assert.equal(slow.replace(`INSERT INTO "loose" VALUES(-1,0.5,0);\n`, ''), fast);
});

test('rows are in order of the bytes of their keys, whatever the collation and the order of inserting', () => {
  using database = databaseAt();
  for (const name of ['b', 'ä', 'B', 'a', '🚀', '\uffee', 'A']) addImage(database, name);
  const ids = snapshotOf(database)
    .data.toString()
    .matchAll(/^INSERT INTO "images" VALUES\('(.)/gmu);
  assert.deepEqual([...ids].map(([, id]) => id).join(''), 'ABabä\uffee🚀');
});

test('a row that could not be restored is not dumped', () => {
  using database = smallState();
  database.prepare('UPDATE vms SET spec_json = zeroblob(?)').run(MAX_ROW_BYTES / 2);
  assert.throws(() => snapshotOf(database), { code: 'limit_exceeded', message: /a row of vms/ });
});

test('pieces have about one size, and a large row is one of its own', () => {
  using database = smallState();
  database.prepare('UPDATE vms SET spec_json = ?').run('x'.repeat(3_000_000));
  const sizes: number[] = [];
  dumpInto(database, SCHEMA, (chunk) => sizes.push(chunk.length));
  assert.equal(sizes.length, 4);
  assert.ok(sizes[1] !== undefined && sizes[1] > 3_000_000);
});
