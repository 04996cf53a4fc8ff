/** State snapshots as files and requests name them; what is in one: docs/state.md. */

export const SNAPSHOT_ENCODINGS = ['identity', 'zstd'] as const;
/** How the payload lies on disk and in a registry. Its digest is always that of the plain bytes. */
export type SnapshotEncoding = (typeof SNAPSHOT_ENCODINGS)[number];

/** `<payload>.manifest.json`: canonical JSON of exactly these fields. */
export interface SnapshotManifest {
  readonly manifest_version: 1;
  readonly kind: 'bootstrap.sqlite.dump';
  readonly format: 'sqlite3dump.sql';
  /** `sha256:<64 hex>` of the decoded payload: the snapshot's identity. */
  readonly checksum: string;
  readonly payload_bytes: number;
  readonly encoding: SnapshotEncoding;
  readonly encoded_bytes: number;
  readonly encoded_checksum: string;
  /** What the rows mean: CONTROL_MODEL_VERSION. */
  readonly control_model_version: number;
  /** How images/, kernels/ and vms/ are laid out: CACHE_SCHEMA_VERSION. */
  readonly cache_schema_version: number;
  /** Counts durable changes of the database it was taken from (its `user_version`), u64: larger is later. */
  readonly control_version: bigint;
  /** RFC 3339. Not part of the identity. */
  readonly created_at: string;
  /** Version of the program that made it. Not part of the identity. */
  readonly source_chassis_version: string;
  readonly db_migration_version: number;
  /** `sha256:<hex>` of the DDL in the payload. */
  readonly schema_digest: string;
  /** Rows per table. */
  readonly table_counts: Readonly<Record<string, number>>;
  /** `table.column`s whose values are facts of the host it was made on. */
  readonly host_bound: readonly string[];
  /** How many things outside of the snapshot its rows need, by kind. */
  readonly requires_external: { readonly images: number; readonly vm_directories: number };
  /** `sha256:<hex>` of this manifest's canonical JSON without this field: a changed byte anywhere shows. */
  readonly manifest_checksum: string;
}
