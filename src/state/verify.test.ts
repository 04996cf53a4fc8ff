import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { forge, reasonOf, smallState, snapshotOf } from '../../test/helpers/state-fixture.ts';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { ErrVerify } from './errors.ts';
import { digestOf } from '../oci/digest.ts';
import { MAX_PAYLOAD_BYTES } from './manifest.ts';
import { verify } from './verify.ts';

using state = smallState();
const PLAIN = snapshotOf(state);
const ZSTD = snapshotOf(state, 'zstd');
const NEWEST = MIGRATIONS.at(-1)?.id ?? 0;
const OPTIONS = { migrations: MIGRATIONS };
const ZERO = `sha256:${'0'.repeat(64)}`;

const reason = (data: Uint8Array, manifest: Uint8Array, digest?: string): string =>
  reasonOf(() => verify(data, manifest, digest === undefined ? OPTIONS : { ...OPTIONS, digest }));

test('both encodings give the payload, and one identity', () => {
  assert.equal(PLAIN.manifest.checksum, ZSTD.manifest.checksum);
  assert.ok(ZSTD.data.length < PLAIN.data.length);
  const { checksum } = PLAIN.manifest;
  for (const { data, manifestBytes } of [PLAIN, ZSTD]) {
    const verified = verify(data, manifestBytes, { ...OPTIONS, digest: checksum });
    assert.ok(verified.payload.equals(PLAIN.data));
    assert.equal(verified.schema.level, NEWEST);
    assert.equal(verified.manifest.control_version, 7n);
  }
});

test('the reason is in the message, which is what survives the RPC', () => {
  assert.throws(
    () => verify(PLAIN.data.subarray(1), PLAIN.manifestBytes, OPTIONS),
    (error) =>
      error instanceof ErrVerify &&
      error.code === 'verify_failed' &&
      error.reason === 'size' &&
      error.message.startsWith('size: '),
  );
});

/** Two defects at a time: the one whose check is earlier is the one that is told. */
test('the checks have one order', () => {
  const steps: readonly (readonly [string, Partial<SnapshotManifest>])[] = [
    ['kind', { kind: 'x' as 'bootstrap.sqlite.dump' }],
    ['format', { format: 'x' as 'sqlite3dump.sql' }],
    ['encoding', { encoding: 'x' as 'zstd' }],
    ['size', { encoded_bytes: 1 }],
    ['encoded_checksum', { encoded_checksum: ZERO }],
    ['payload_size', { payload_bytes: 1 }],
    ['checksum', { checksum: ZERO }],
    ['control_model_version', { control_model_version: 2 }],
    ['cache_schema_version', { cache_schema_version: 2 }],
    ['manifest', { control_version: 2n ** 31n }],
    ['migration_version', { db_migration_version: NEWEST + 1 }],
    ['schema', { schema_digest: ZERO }],
  ];
  for (const [index, [name, change]] of steps.entries()) {
    const all = Object.assign({}, ...steps.slice(index + 1).map(([, later]) => later), change);
    for (const defects of [change, all]) {
      const { data, manifestBytes } = forge(PLAIN.data, defects);
      assert.equal(reason(data, manifestBytes), name);
    }
  }
});

test('the digest that was asked for comes before all versions, after the checksum', () => {
  assert.equal(reason(PLAIN.data, PLAIN.manifestBytes, ZERO), 'digest');
  const { data, manifestBytes } = forge(PLAIN.data, { control_model_version: 2 });
  assert.equal(reason(data, manifestBytes, ZERO), 'digest');
  const forged = forge(PLAIN.data, { checksum: ZERO });
  assert.equal(reason(forged.data, forged.manifestBytes, ZERO), 'checksum');
});

test('D7: a snapshot of a newer program is refused with both versions', () => {
  const { data, manifestBytes } = forge(PLAIN.data, { db_migration_version: 999 });
  assert.throws(() => verify(data, manifestBytes, OPTIONS), {
    code: 'verify_failed',
    message: `migration_version: schema version 999 is newer than ${NEWEST}, which this program knows`,
  });
  for (const level of [0, -1, 50]) {
    const forged = forge(PLAIN.data, { db_migration_version: level });
    assert.equal(reason(forged.data, forged.manifestBytes), 'migration_version', String(level));
  }
});

test('a schema of another level is refused', () => {
  const { data, manifestBytes } = forge(PLAIN.data, { db_migration_version: 101 });
  assert.equal(reason(data, manifestBytes), 'schema');
});

test('every truncation and every changed byte of payload and manifest is refused', () => {
  const { manifestBytes } = PLAIN;
  for (const { data, manifestBytes: manifest } of [PLAIN, ZSTD]) {
    for (let length = 0; length < data.length; length += 1) {
      assert.equal(reason(data.subarray(0, length), manifest), 'size');
    }
    assert.equal(reason(Buffer.concat([data, Buffer.alloc(1)]), manifest), 'size');
    everyChange(data, (changed, at) =>
      assert.equal(reason(changed, manifest), 'encoded_checksum', `byte ${at}`),
    );
  }
  for (let length = 0; length < manifestBytes.length; length += 1) {
    assert.equal(reason(PLAIN.data, manifestBytes.subarray(0, length)), 'manifest');
  }
  everyChange(manifestBytes, (changed, at) => {
    assert.match(reason(PLAIN.data, changed), /^(?:manifest|version)$/, `byte ${at}`);
  });
});

/** One bit of each byte, and all other values of every hundredth one. */
function everyChange(bytes: Buffer, check: (changed: Buffer, at: number) => void): void {
  const changed = Buffer.from(bytes);
  for (const [at, byte] of bytes.entries()) {
    const step = at % 100 === 0 ? 1 : 255;
    for (let difference = 1; difference < 256; difference += step) {
      changed[at] = byte ^ difference;
      check(changed, at);
    }
    changed[at] = byte;
  }
}

test('a payload that decodes to more than the manifest says is not decoded further', () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
  assert.ok(bomb.length < 16 * 1024);
  const manifest = { encoding: 'zstd', payload_bytes: 1000, checksum: ZERO } as const;
  const { data, manifestBytes } = forge(bomb, manifest);
  const before = process.memoryUsage().arrayBuffers;
  assert.equal(reason(data, manifestBytes), 'payload_size');
  assert.ok(process.memoryUsage().arrayBuffers - before < 16 * 1024 * 1024);
  const empty = forge(bomb, { ...manifest, payload_bytes: 0 });
  assert.equal(reason(empty.data, empty.manifestBytes), 'payload_size');
});

test('a size beyond the cap is refused before anything is decoded or hashed', () => {
  const { data, manifestBytes } = forge(PLAIN.data, {
    payload_bytes: MAX_PAYLOAD_BYTES + 1,
    encoded_checksum: ZERO,
  });
  assert.equal(reason(data, manifestBytes), 'size');
  const huge = { byteLength: MAX_PAYLOAD_BYTES + 1 } as Uint8Array;
  assert.equal(reason(huge, PLAIN.manifestBytes), 'size');
});

test('zstd data that is none, stops early, or is less than said', () => {
  const zstd = {
    encoding: 'zstd',
    payload_bytes: PLAIN.data.length,
    checksum: PLAIN.manifest.checksum,
  } as const;
  const refused = (data: Buffer): string => {
    const forged = forge(data, zstd);
    return reason(forged.data, forged.manifestBytes);
  };
  assert.equal(refused(Buffer.from('not zstd at all')), 'decode');
  assert.equal(refused(Buffer.alloc(0)), 'decode');
  assert.equal(refused(ZSTD.data.subarray(0, -10)), 'decode');
  assert.equal(refused(zstdCompressSync(PLAIN.data.subarray(1))), 'payload_size');
  assert.equal(refused(zstdCompressSync(Buffer.alloc(PLAIN.data.length))), 'checksum');
  assert.equal(digestOf(PLAIN.data), PLAIN.manifest.checksum);
});
