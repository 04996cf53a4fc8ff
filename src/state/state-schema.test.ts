import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { databaseAt, ODD_MIGRATIONS, smallState, snapshotOf } from '../../test/helpers/state-fixture.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { canonicalDump } from './dump.ts';
import { levelOf, schemaAt } from './state-schema.ts';

const NEWEST = MIGRATIONS.at(-1)?.id ?? 0;

test('a schema is that of its level', () => {
  const names = (level: number): string =>
    schemaAt(MIGRATIONS, level)
      .tables.map(({ name }) => name)
      .join();
  assert.equal(names(NEWEST), 'images,schema_migrations,vms');
  const digests = MIGRATIONS.map(({ id }) => schemaAt(MIGRATIONS, id).digest);
  assert.equal(digests[0]?.length, 'sha256:'.length + 64);
  assert.notEqual(digests[0], digests.at(-1));
  assert.ok(schemaAt(MIGRATIONS, 1).tables[0]?.columns.includes('docker'));
  assert.ok(!schemaAt(MIGRATIONS, 2).tables[0]?.columns.includes('docker'));
  assert.throws(() => schemaAt(MIGRATIONS, 50), /no migration has the id 50/);
});

test('the key is in its own order, not in that of the columns', () => {
  const table = schemaAt(ODD_MIGRATIONS, 1).tables.find(({ name }) => name === 'search_data');
  assert.deepEqual(
    table?.key.map((index) => table.columns[index]),
    ['n', 'k'],
  );
});

const UNDUMPABLE: Readonly<Record<string, string>> = {
  'has no primary key': 'CREATE TABLE t (a)',
  'takes NULL': 'CREATE TABLE t (a TEXT PRIMARY KEY)',
  'has a generated column': 'CREATE TABLE t (a INTEGER PRIMARY KEY, b AS (a + 1))',
  AUTOINCREMENT: 'CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT)',
  'tables and indexes only': 'CREATE TABLE t (a INTEGER PRIMARY KEY); CREATE VIEW v AS SELECT 1',
};
for (const [message, sql] of Object.entries(UNDUMPABLE)) {
  test(`a migration whose table ${message} is a programmer error`, () => {
    const migration = { id: 1, name: 'x', apply: (database: DatabaseSync) => database.exec(sql) };
    assert.throws(() => schemaAt([migration], 1), new RegExp(message));
  });
}

test('the level is that of the last migration', () => {
  for (const { id } of MIGRATIONS) {
    using database = databaseAt(MIGRATIONS, id);
    assert.equal(levelOf(database, MIGRATIONS), id);
  }
});

test('a newer database is refused with both versions', () => {
  using database = databaseAt();
  database.exec("INSERT INTO schema_migrations VALUES (9223372036854775807, 'future', '')");
  assert.throws(() => levelOf(database, MIGRATIONS), {
    code: 'version_mismatch',
    message: new RegExp(`version 9223372036854776000; .* version ${NEWEST}$`),
  });
});

test('a history with a gap, an unknown step, no step or no table is refused', () => {
  for (const sql of [
    'DELETE FROM schema_migrations WHERE id = 3',
    "INSERT INTO schema_migrations VALUES (50, 'x', '')",
    "INSERT INTO schema_migrations VALUES (-1, 'x', '')",
    'DELETE FROM schema_migrations',
    'DROP TABLE schema_migrations',
  ]) {
    using database = databaseAt();
    database.exec(sql);
    assert.throws(() => levelOf(database, MIGRATIONS), { code: 'unsupported' }, sql);
  }
});

test('D5: what is not ours is refused by its name, never skipped', () => {
  const foreign: Readonly<Record<string, string>> = {
    notes_config: 'CREATE TABLE notes_config (a)',
    notes_idx: 'CREATE INDEX notes_idx ON vms(state)',
    peek: 'CREATE VIEW peek AS SELECT 1',
    spy: 'CREATE TRIGGER spy AFTER DELETE ON vms BEGIN SELECT 1; END',
    // Of a full text index, the first of its shadow tables.
    search: 'CREATE VIRTUAL TABLE search USING fts5(a)',
    vms: "ALTER TABLE vms ADD COLUMN more TEXT NOT NULL DEFAULT ''",
    vms_name: 'DROP INDEX vms_name; CREATE UNIQUE INDEX vms_name ON vms (name)',
    vms_image_id: 'DROP INDEX vms_image_id',
  };
  for (const [name, sql] of Object.entries(foreign)) {
    using database = smallState();
    database.exec(sql);
    assert.throws(
      () => snapshotOf(database),
      { code: 'unsupported', message: new RegExp(`\\b${name}\\b`) },
      sql,
    );
  }
});

test('what SQLite keeps for itself is no obstacle', () => {
  using database = smallState();
  const before = snapshotOf(database).manifest.checksum;
  database.exec('ANALYZE');
  assert.equal(snapshotOf(database).manifest.checksum, before);
});

test('a database that keeps text as UTF-16 is refused', () => {
  using database = new DatabaseSync(':memory:');
  database.exec("PRAGMA encoding = 'UTF-16le'");
  const schema = schemaAt(MIGRATIONS, NEWEST);
  for (const { sql } of [...schema.tables, ...schema.indexes]) database.exec(sql);
  assert.throws(() => canonicalDump(database, schema), { code: 'unsupported', message: /UTF-16le/ });
});
