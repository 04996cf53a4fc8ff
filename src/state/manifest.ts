/** The manifest of a snapshot: its bytes to a checked value, and back. */

import { z } from 'zod';
import { errorText } from '../core/errors.ts';
import { SNAPSHOT_ENCODINGS, type SnapshotManifest } from '../core/model/snapshot.ts';
import { type CanonicalValue, canonicalJson, parseCanonicalJson } from './canonical-json.ts';
import { MAX_CONTROL_VERSION as MAX_USER_VERSION } from '../store/sql.ts';
import { digestOf } from '../oci/digest.ts';
import { ErrVerify } from './errors.ts';

export const MAX_MANIFEST_BYTES = 64 * 1024;
/** Of the plain payload and of the encoded one. */
export const MAX_PAYLOAD_BYTES = 512 * 1024 * 1024;
/** The largest that a database can keep. */
export const MAX_CONTROL_VERSION = BigInt(MAX_USER_VERSION);

export const KIND = 'bootstrap.sqlite.dump';
export const FORMAT = 'sqlite3dump.sql';
const MANIFEST_VERSION = 1;

const MAX_TABLES = 1000;
const count = z.int().nonnegative();
const version = z.int().positive();
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const name = z.string().min(1).max(128);

/** Kind, format and encoding are texts here: what they say has a reason of its own. */
const shape = z.strictObject({
  manifest_version: z.literal(MANIFEST_VERSION),
  kind: z.string(),
  format: z.string(),
  checksum: digest,
  payload_bytes: count,
  encoding: z.string(),
  encoded_bytes: count,
  encoded_checksum: digest,
  control_model_version: version,
  cache_schema_version: version,
  control_version: z
    .union([count, z.bigint().nonnegative()])
    .transform((value) => BigInt(value))
    .refine((value) => value < 2n ** 64n, 'not an unsigned 64-bit number'),
  created_at: z.iso.datetime({ offset: true }),
  source_chassis_version: z.string().min(1).max(128),
  db_migration_version: z.int(),
  schema_digest: digest,
  table_counts: z
    .record(name, count)
    .refine((counts) => Object.keys(counts).length <= MAX_TABLES, 'too many tables'),
  host_bound: z.array(name).max(MAX_TABLES).refine(isSortedSet, 'not sorted, or something twice'),
  requires_external: z.strictObject({ images: count, vm_directories: count }),
  manifest_checksum: digest,
});

function isSortedSet(values: readonly string[]): boolean {
  return values.every((value, index) => index === 0 || (values[index - 1] as string) < value);
}

/** Adds the checksum of the manifest itself. The bytes are what `decodeManifest` takes. */
export function encodeManifest(fields: Omit<SnapshotManifest, 'manifest_checksum'>): {
  readonly manifest: SnapshotManifest;
  readonly bytes: Buffer;
} {
  const manifest = { ...fields, manifest_checksum: digestOf(canonicalJson(fields)) };
  return { manifest, bytes: Buffer.from(canonicalJson(manifest)) };
}

type CanonicalFields = Readonly<Record<string, CanonicalValue>>;

/**
 * Checks a manifest as far as that goes without the payload.
 * @throws {ErrVerify} `size`, `manifest`, `version`, `kind`, `format`, `encoding`, in this order
 */
export function decodeManifest(bytes: Uint8Array): SnapshotManifest {
  if (bytes.byteLength > MAX_MANIFEST_BYTES) {
    throw new ErrVerify(
      'size',
      `the manifest has ${bytes.byteLength} bytes, more than ${MAX_MANIFEST_BYTES}`,
    );
  }
  const fields = parseObject(bytes);
  if (fields['manifest_version'] !== MANIFEST_VERSION) {
    const found = String(fields['manifest_version']).slice(0, 32);
    throw new ErrVerify('version', `manifest version ${found}; this program knows ${MANIFEST_VERSION}`);
  }
  const parsed = shape.safeParse(fields);
  if (!parsed.success) throw new ErrVerify('manifest', describe(parsed.error));
  const { manifest_checksum: checksum, ...rest } = fields;
  if (checksum !== digestOf(canonicalJson(rest))) {
    throw new ErrVerify('manifest', 'its checksum does not match its content');
  }
  const { kind, format, encoding } = parsed.data;
  if (kind !== KIND) throw new ErrVerify('kind', `${shown(kind)} is not ${KIND}`);
  if (format !== FORMAT) throw new ErrVerify('format', `${shown(format)} is not ${FORMAT}`);
  const known = SNAPSHOT_ENCODINGS.find((candidate) => candidate === encoding);
  if (known === undefined) throw new ErrVerify('encoding', `${shown(encoding)} is none this program knows`);
  return { ...parsed.data, kind, format, encoding: known };
}

function parseObject(bytes: Uint8Array): CanonicalFields {
  let value: CanonicalValue;
  try {
    value = parseCanonicalJson(bytes);
  } catch (cause) {
    throw new ErrVerify('manifest', errorText(cause), { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as CanonicalFields;
  throw new ErrVerify('manifest', 'not an object');
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 64));
}

function describe(error: z.ZodError): string {
  const issues = error.issues.slice(0, 3).map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  return issues.join('; ').slice(0, 512);
}
