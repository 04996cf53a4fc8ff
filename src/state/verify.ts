/** Whether a snapshot is what it says and is for this program: all that can be known without parsing its rows. */

import { zstdDecompressSync } from 'node:zlib';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import type { Migration } from '../store/migrations/migration.ts';
import { ErrVerify, type VerifyReason } from './errors.ts';
import { digestOf } from '../oci/digest.ts';
import { decodeManifest, MAX_CONTROL_VERSION, MAX_PAYLOAD_BYTES } from './manifest.ts';
import { schemaAt, type StateSchema } from './state-schema.ts';
import { CACHE_SCHEMA_VERSION, CONTROL_MODEL_VERSION } from './versions.ts';

export interface VerifiedSnapshot {
  readonly manifest: SnapshotManifest;
  /** Decoded. What is restored is this and no second reading of a file. */
  readonly payload: Buffer;
  readonly schema: StateSchema;
}

export interface VerifyOptions {
  readonly migrations: readonly Migration[];
  /** `sha256:<hex>`: the snapshot that was asked for. */
  readonly digest?: string;
}

/**
 * Makes no file and changes none. The order of the checks is that of docs/state.md.
 * @throws {ErrVerify} whatever the input
 */
export function verify(
  data: Uint8Array,
  manifestBytes: Uint8Array,
  options: VerifyOptions,
): VerifiedSnapshot {
  check(
    data.byteLength <= MAX_PAYLOAD_BYTES,
    'size',
    () => `${data.byteLength} bytes, more than ${MAX_PAYLOAD_BYTES}`,
  );
  const manifest = decodeManifest(manifestBytes);
  const encoded = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const payload = decode(encoded, manifest);
  check(
    options.digest === undefined || options.digest === manifest.checksum,
    'digest',
    () => `this is ${manifest.checksum}, not ${options.digest}`,
  );
  return { manifest, payload, schema: checkVersions(manifest, options.migrations) };
}

function check(holds: boolean, reason: VerifyReason, message: () => string): asserts holds {
  if (!holds) throw new ErrVerify(reason, message());
}

function decode(encoded: Buffer, manifest: SnapshotManifest): Buffer {
  const { payload_bytes: size, encoded_bytes: encodedSize } = manifest;
  check(
    size <= MAX_PAYLOAD_BYTES,
    'size',
    () => `a payload of ${size} bytes, more than ${MAX_PAYLOAD_BYTES}`,
  );
  check(
    encoded.length === encodedSize,
    'size',
    () => `${encoded.length} bytes, where the manifest says ${encodedSize}`,
  );
  const encodedDigest = digestOf(encoded);
  check(
    encodedDigest === manifest.encoded_checksum,
    'encoded_checksum',
    () => `the bytes are ${encodedDigest}, where the manifest says ${manifest.encoded_checksum}`,
  );
  const payload = manifest.encoding === 'zstd' ? decompress(encoded, size) : encoded;
  check(
    payload.length === size,
    'payload_size',
    () => `${payload.length} bytes decoded, where the manifest says ${size}`,
  );
  const digest = manifest.encoding === 'zstd' ? digestOf(payload) : encodedDigest;
  check(
    digest === manifest.checksum,
    'checksum',
    () => `the payload is ${digest}, where the manifest says ${manifest.checksum}`,
  );
  return payload;
}

/** Never makes more than the manifest promises, whatever the data would expand to. */
function decompress(encoded: Buffer, size: number): Buffer {
  try {
    // The cap must be positive; an empty payload is refused by its size next.
    return zstdDecompressSync(encoded, { maxOutputLength: Math.max(size, 1) });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ERR_BUFFER_TOO_LARGE') {
      throw new ErrVerify('payload_size', `decodes to more than the ${size} bytes of the manifest`, {
        cause,
      });
    }
    throw new ErrVerify('decode', `not zstd data (${code ?? 'unknown error'})`, { cause });
  }
}

function checkVersions(manifest: SnapshotManifest, migrations: readonly Migration[]): StateSchema {
  const { control_model_version: model, cache_schema_version: cache, db_migration_version: level } = manifest;
  check(
    model === CONTROL_MODEL_VERSION,
    'control_model_version',
    () => `${model}; this program knows ${CONTROL_MODEL_VERSION}`,
  );
  check(
    cache === CACHE_SCHEMA_VERSION,
    'cache_schema_version',
    () => `${cache}; this program knows ${CACHE_SCHEMA_VERSION}`,
  );
  check(
    manifest.control_version <= MAX_CONTROL_VERSION,
    'manifest',
    () => `control version ${manifest.control_version} is larger than a database can keep`,
  );
  const newest = migrations.at(-1)?.id ?? 0;
  if (level > newest) {
    const message = `schema version ${level} is newer than ${newest}, which this program knows`;
    throw new ErrVerify('migration_version', message, {
      hint: 'use the banger that made it, or a newer one',
    });
  }
  const known = migrations.some(({ id }) => id === level);
  check(
    level >= 1 && known,
    'migration_version',
    () => `there is no schema version ${level}; the newest is ${newest}`,
  );
  const schema = schemaAt(migrations, level);
  check(
    schema.digest === manifest.schema_digest,
    'schema',
    () => `its tables are not those of schema version ${level}`,
  );
  return schema;
}
