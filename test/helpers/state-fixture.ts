/** Small databases and snapshots for the tests of state. */

import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import type { SnapshotEncoding, SnapshotManifest } from '../../src/core/model/snapshot.ts';
import { exportState, type Snapshot } from '../../src/state/export.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { encodeManifest } from '../../src/state/manifest.ts';
import { schemaAt } from '../../src/state/state-schema.ts';
import { MIGRATIONS } from '../../src/store/migrations/list.ts';
import { HISTORY_SQL, type Migration } from '../../src/store/migrations/migration.ts';

/** Names that dump libraries skip, columns without a type, keys of more than one column. */
export const ODD_MIGRATIONS: readonly Migration[] = [
  {
    id: 1,
    name: "it's odd",
    apply: (database) => {
      database.exec(`
        CREATE TABLE loose (id INTEGER PRIMARY KEY, a, b);
        CREATE TABLE search_config (k NOT NULL PRIMARY KEY, v) WITHOUT ROWID;
        CREATE TABLE search_data (k TEXT NOT NULL, n NOT NULL, v, PRIMARY KEY (n, k));
        CREATE TABLE search_content (k INTEGER PRIMARY KEY);
        CREATE TABLE search_stat (k INTEGER PRIMARY KEY);
        CREATE TABLE search_idx (k INTEGER PRIMARY KEY);
        CREATE TABLE search_docsize (k INTEGER PRIMARY KEY);
        CREATE INDEX loose_a ON loose(a);
      `);
    },
  },
];

/** A database as the migrations up to the level make it; in memory unless a path is given. */
export function databaseAt(
  migrations: readonly Migration[] = MIGRATIONS,
  level = migrations.at(-1)?.id ?? 0,
  path = ':memory:',
): DatabaseSync {
  const database = new DatabaseSync(path);
  database.exec(HISTORY_SQL);
  for (const migration of migrations.filter(({ id }) => id <= level)) {
    migration.apply(database);
    const record = database.prepare('INSERT INTO schema_migrations VALUES (?, ?, ?)');
    record.run(migration.id, migration.name, new Date().toISOString());
  }
  return database;
}

export function addImage(database: DatabaseSync, name: string, id = name): void {
  database
    .prepare(
      `INSERT INTO images (id, name, managed, artifact_dir, rootfs_path, kernel_path, created_at, updated_at)
       VALUES (?, ?, 1, ?, ?, '/kernels/k/vmlinux', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')`,
    )
    .run(id, name, `/images/${name}`, `/images/${name}/root.qcow2`);
}

export function addVm(
  database: DatabaseSync,
  name: string,
  change: Readonly<Record<string, SQLInputValue>> = {},
): void {
  const row: Record<string, SQLInputValue> = {
    id: name,
    name,
    image_id: 'debian',
    guest_ip: '',
    state: 'stopped',
    created_at: '2026-01-02T00:00:00Z',
    updated_at: '2026-01-03T00:00:00Z',
    last_touched_at: '2026-01-04T00:00:00Z',
    spec_json: '{"vcpus":2}',
    runtime_json: '{"bootId":"b"}',
    stats_json: '{"cpuMs":1}',
    workspace_json: '{}',
    ...change,
  };
  const columns = Object.keys(row);
  database
    .prepare(`INSERT INTO vms (${columns.join()}) VALUES (${columns.map(() => '?').join()})`)
    .run(...Object.values(row));
}

/** An image and two VMs, one with a quote and characters beyond ASCII. */
export function smallState(): DatabaseSync {
  const database = databaseAt();
  addImage(database, 'debian');
  addVm(database, 'web', { workspace_json: '{"guestPath":"/workspace/it\'s größe 🚀"}' });
  addVm(database, 'db');
  database.exec('PRAGMA user_version = 7');
  return database;
}

export function snapshotOf(
  database: DatabaseSync,
  encoding: SnapshotEncoding = 'identity',
  migrations: readonly Migration[] = MIGRATIONS,
): Snapshot {
  return exportState(database, {
    migrations,
    version: '0.1.0',
    encoding,
    createdAt: '2026-02-01T00:00:00.000Z',
  });
}

/** A snapshot whose checksums are right whatever its payload says: what an attacker would make. */
export function forge(
  payload: Buffer,
  change: Partial<SnapshotManifest> = {},
  migrations: readonly Migration[] = MIGRATIONS,
): { readonly data: Buffer; readonly manifestBytes: Buffer } {
  const schema = schemaAt(migrations, migrations.at(-1)?.id ?? 0);
  const { bytes } = encodeManifest({
    manifest_version: 1,
    kind: 'bootstrap.sqlite.dump',
    format: 'sqlite3dump.sql',
    checksum: digestOf(payload),
    payload_bytes: payload.length,
    encoding: 'identity',
    encoded_bytes: payload.length,
    encoded_checksum: digestOf(payload),
    control_model_version: 1,
    cache_schema_version: 1,
    control_version: 7n,
    created_at: '2026-02-01T00:00:00.000Z',
    source_chassis_version: '0.1.0',
    db_migration_version: schema.level,
    schema_digest: schema.digest,
    table_counts: {},
    host_bound: [],
    requires_external: { images: 0, vm_directories: 0 },
    ...change,
  });
  return { data: payload, manifestBytes: bytes };
}

/** The reason of an ErrVerify, or what else was thrown. */
export function reasonOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return String((error as { reason?: unknown }).reason ?? error);
  }
  return 'accepted';
}
