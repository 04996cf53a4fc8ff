/** A database to a snapshot in memory. */

import { zstdCompressSync } from 'node:zlib';
import type { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import type { SnapshotEncoding, SnapshotManifest } from '../core/model/snapshot.ts';
import type { Migration } from '../store/migrations/migration.ts';
import { selectOne } from '../store/sql.ts';
import { canonicalDump } from './dump.ts';
import { digestOf } from '../oci/digest.ts';
import { encodeManifest, FORMAT, KIND, MAX_CONTROL_VERSION } from './manifest.ts';
import { levelOf, schemaAt, type StateSchema } from './state-schema.ts';
import { CACHE_SCHEMA_VERSION, CONTROL_MODEL_VERSION } from './versions.ts';
import { HOST_BOUND } from './volatile.ts';

export interface Snapshot {
  /** The payload as encoded. */
  readonly data: Buffer;
  readonly manifest: SnapshotManifest;
  readonly manifestBytes: Buffer;
}

export interface ExportOptions {
  readonly migrations: readonly Migration[];
  /** Of the program: `source_chassis_version`. */
  readonly version: string;
  readonly encoding: SnapshotEncoding;
  /** RFC 3339. */
  readonly createdAt: string;
}

/**
 * One moment of the database: payload and manifest come from one read transaction, the caller's if it has one open.
 * @throws {BangerError} `unsupported` (not a database of ours, or with things in it that are not), `version_mismatch`
 *   (of a newer program), `limit_exceeded`
 */
export function exportState(database: DatabaseSync, options: ExportOptions): Snapshot {
  const { schema, payload, digest, counts, controlVersion } = readTransaction(database, () => {
    const schema = schemaAt(options.migrations, levelOf(database, options.migrations));
    const dump = canonicalDump(database, schema);
    return {
      schema,
      payload: dump.payload,
      digest: dump.sha256,
      counts: dump.counts,
      controlVersion: controlVersionOf(database),
    };
  });
  const data = options.encoding === 'zstd' ? zstdCompressSync(payload) : payload;
  const { manifest, bytes } = encodeManifest({
    manifest_version: 1,
    kind: KIND,
    format: FORMAT,
    checksum: digest,
    payload_bytes: payload.length,
    encoding: options.encoding,
    encoded_bytes: data.length,
    encoded_checksum: options.encoding === 'identity' ? digest : digestOf(data),
    control_model_version: CONTROL_MODEL_VERSION,
    cache_schema_version: CACHE_SCHEMA_VERSION,
    control_version: controlVersion,
    created_at: options.createdAt,
    source_chassis_version: options.version,
    db_migration_version: schema.level,
    schema_digest: schema.digest,
    table_counts: counts,
    host_bound: hostBound(schema),
    requires_external: { images: counts['images'] ?? 0, vm_directories: counts['vms'] ?? 0 },
  });
  return { data, manifest, manifestBytes: bytes };
}

function readTransaction<T>(database: DatabaseSync, work: () => T): T {
  if (database.isTransaction) return work();
  database.exec('BEGIN');
  try {
    return work();
  } finally {
    if (database.isTransaction) database.exec('ROLLBACK');
  }
}

function controlVersionOf(database: DatabaseSync): bigint {
  const version = BigInt(Number(selectOne(database, 'PRAGMA user_version')?.['user_version']));
  if (version >= 0n && version <= MAX_CONTROL_VERSION) return version;
  throw new BangerError(
    'unsupported',
    `the database has control version ${version}, which none of ours can have`,
  );
}

function hostBound(schema: StateSchema): readonly string[] {
  const columns = new Set(
    schema.tables.flatMap((table) => table.columns.map((column) => `${table.name}.${column}`)),
  );
  return HOST_BOUND.filter((column) => columns.has(column));
}
