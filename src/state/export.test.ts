import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { addVm, smallState, snapshotOf } from '../../test/helpers/state-fixture.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { openDatabase } from '../store/open.ts';
import { openStore } from '../store/store.ts';
import { digestOf } from '../oci/digest.ts';
import { readPayload } from './payload-reader.ts';
import { verify } from './verify.ts';

test('the manifest says what is in the payload', () => {
  using database = smallState();
  const { data, manifest, manifestBytes } = snapshotOf(database);
  assert.equal(manifest.checksum, digestOf(data));
  assert.equal(manifest.payload_bytes, data.length);
  assert.equal(manifest.control_version, 7n);
  assert.equal(manifest.db_migration_version, MIGRATIONS.at(-1)?.id);
  assert.deepEqual(manifest.table_counts, { images: 1, schema_migrations: MIGRATIONS.length, vms: 2 });
  assert.deepEqual(manifest.requires_external, { images: 1, vm_directories: 2 });
  assert.ok(manifest.host_bound.includes('images.rootfs_path'));
  assert.deepEqual(verify(data, manifestBytes, { migrations: MIGRATIONS }).manifest, manifest);
});

test('times and versions are not part of the identity', () => {
  using database = smallState();
  const before = snapshotOf(database).manifest;
  database.exec('PRAGMA user_version = 8');
  const after = snapshotOf(database, 'zstd').manifest;
  assert.equal(after.checksum, before.checksum);
  assert.equal(after.control_version, 8n);
});

test('a transaction of the caller is used and stays open', () => {
  using database = smallState();
  database.exec('BEGIN');
  addVm(database, 'uncommitted');
  assert.equal(snapshotOf(database).manifest.table_counts['vms'], 3);
  assert.equal(database.isTransaction, true);
  database.exec('ROLLBACK');
  snapshotOf(database);
  assert.equal(database.isTransaction, false);
});

test('a failure ends the transaction it began', () => {
  using database = smallState();
  database.exec('CREATE TABLE foreign_one (a)');
  assert.throws(() => snapshotOf(database), { code: 'unsupported' });
  assert.equal(database.isTransaction, false);
});

test('a control version that is none is refused', () => {
  using database = smallState();
  database.exec('PRAGMA user_version = -1');
  assert.throws(() => snapshotOf(database), { code: 'unsupported', message: /control version -1/ });
});

/** Writes one number into the first and the last row and into user_version, in one transaction each, until killed. */
const WRITER = `
  import { DatabaseSync } from 'node:sqlite';
  const database = new DatabaseSync(process.argv[1], { timeout: 5000 });
  database.exec('PRAGMA wal_autocheckpoint = 20');
  console.log('ready');
  for (let n = 1; ; n += 1) {
    database.exec(\`BEGIN IMMEDIATE; UPDATE images SET build_size = '\${n}'; UPDATE vms SET workspace_json = '\${n}';
      INSERT INTO images SELECT 'i' || \${n}, 'n' || \${n}, 0, '', '', NULL, '', '', '', '\${n}', NULL, '', '' WHERE \${n} % 2;
      DELETE FROM images WHERE id = 'i' || \${n - 1}; PRAGMA user_version = \${n}; COMMIT\`);
  }`;

test('D4: a dump under a writer is one committed moment, its manifest too', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'export-'));
  const path = join(dir, 'state.db');
  openStore(path).close();
  using database = openDatabase(path);
  using source = smallState();
  database.exec('BEGIN');
  for (const table of ['images', 'vms']) {
    for (const row of source.prepare(`SELECT * FROM ${table}`).all()) {
      const values = Object.values(row);
      database.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?').join()})`).run(...values);
    }
  }
  for (let index = 0; index < 300; index += 1) addVm(database, `vm-${index}`);
  database.exec('PRAGMA user_version = 0; COMMIT');
  const writer = spawn(process.execPath, ['--input-type=module', '-e', WRITER, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(writer.stdout, 'data');
    const moments = new Set<bigint>();
    for (let round = 0; round < 60 || (moments.size < 20 && round < 5000); round += 1) {
      const { data, manifest, manifestBytes } = snapshotOf(database);
      const { payload, schema } = verify(data, manifestBytes, { migrations: MIGRATIONS });
      const seen = new Set<string>();
      const counts = readPayload(payload, schema, (table, values) => {
        if (table === 'images') seen.add(String(values[9]));
        if (table === 'vms') seen.add(String(values[11]));
      });
      assert.deepEqual(counts, manifest.table_counts);
      const n = manifest.control_version;
      if (n === 0n) continue;
      assert.deepEqual([...seen], [String(n)]);
      assert.equal(counts['images'], n % 2n === 0n ? 1 : 2);
      moments.add(n);
    }
    assert.ok(moments.size >= 20, `only ${moments.size} moments`);
  } finally {
    writer.kill('SIGKILL');
    await once(writer, 'exit');
    database.close();
    rmSync(dir, { recursive: true });
  }
});

test('a database without a history is refused', () => {
  using database = new DatabaseSync(':memory:');
  assert.throws(() => snapshotOf(database), { code: 'unsupported' });
});
