import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forge, reasonOf } from '../../test/helpers/state-fixture.ts';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { type CanonicalValue, canonicalJson, parseCanonicalJson } from './canonical-json.ts';
import { ErrVerify } from './errors.ts';
import { digestOf } from '../oci/digest.ts';
import { decodeManifest, encodeManifest, MAX_MANIFEST_BYTES } from './manifest.ts';

const BYTES = forge(Buffer.from('payload'), {
  control_version: 2n ** 64n - 1n,
  table_counts: { vms: 3 },
}).manifestBytes;
type Fields = Record<string, CanonicalValue>;

/** The manifest with other fields and the checksum that belongs to them. */
function resealed(change: (fields: Fields) => void): Buffer {
  const { manifest_checksum: _, ...fields } = parseCanonicalJson(BYTES) as Fields;
  change(fields);
  return Buffer.from(canonicalJson({ ...fields, manifest_checksum: digestOf(canonicalJson(fields)) }));
}

test('what was encoded is decoded, an unsigned 64-bit control version too', () => {
  const manifest = decodeManifest(BYTES);
  assert.equal(manifest.control_version, 2n ** 64n - 1n);
  assert.deepEqual(manifest.table_counts, { vms: 3 });
  const { manifest_checksum: _, ...fields } = manifest;
  assert.deepEqual(encodeManifest(fields).bytes, BYTES);
  assert.equal(decodeManifest(resealed((all) => (all['control_version'] = 0))).control_version, 0n);
});

const WRONG: readonly (readonly [keyof SnapshotManifest, CanonicalValue])[] = [
  ['checksum', 'sha256:abc'],
  ['checksum', `sha256:${'A'.repeat(64)}`],
  ['checksum', `sha512:${'a'.repeat(64)}`],
  ['payload_bytes', -1],
  ['payload_bytes', 1.5],
  ['payload_bytes', '7'],
  ['payload_bytes', 2n ** 60n],
  ['encoded_bytes', null],
  ['encoded_checksum', ''],
  ['control_model_version', 0],
  ['cache_schema_version', true],
  ['control_version', -1],
  ['control_version', 0.5],
  ['control_version', '7'],
  ['control_version', 2n ** 64n],
  ['created_at', 'yesterday'],
  ['created_at', '2026-02-30T00:00:00Z'],
  ['source_chassis_version', ''],
  ['source_chassis_version', 'x'.repeat(1000)],
  ['db_migration_version', 1.5],
  ['schema_digest', 'x'],
  ['table_counts', []],
  ['table_counts', { vms: -1 }],
  ['table_counts', { '': 1 }],
  ['host_bound', 'vms.state'],
  ['host_bound', [1]],
  ['host_bound', ['b', 'a']],
  ['host_bound', ['a', 'a']],
  ['requires_external', { images: 1 }],
  ['requires_external', { images: 1, vm_directories: 1, more: 1 }],
];
for (const [field, value] of WRONG) {
  test(`refused: ${field} is ${canonicalJson(value).slice(0, 40)}`, () => {
    const bytes = resealed((fields) => (fields[field] = value));
    assert.throws(
      () => decodeManifest(bytes),
      (error) => error instanceof ErrVerify && error.reason === 'manifest' && error.message.includes(field),
    );
  });
}

test('refused: a field that is missing, one that is not known, and no object', () => {
  for (const field of Object.keys(parseCanonicalJson(BYTES) as Fields)) {
    if (field === 'manifest_version' || field === 'manifest_checksum') continue;
    const bytes = resealed((fields) => delete fields[field]);
    assert.equal(
      reasonOf(() => decodeManifest(bytes)),
      'manifest',
      field,
    );
  }
  const unknown = resealed((fields) => (fields['zzz'] = 1));
  assert.equal(
    reasonOf(() => decodeManifest(unknown)),
    'manifest',
  );
  const prototype = resealed((fields) =>
    Object.defineProperty(fields, '__proto__', { value: {}, enumerable: true }),
  );
  assert.equal(
    reasonOf(() => decodeManifest(prototype)),
    'manifest',
  );
  for (const text of ['[]', 'null', '1', '""', '']) {
    assert.equal(
      reasonOf(() => decodeManifest(Buffer.from(text))),
      'manifest',
      text,
    );
  }
});

test('an unknown version is said before anything else is looked at', () => {
  for (const version of [0, 2, '1', null]) {
    assert.equal(
      reasonOf(() => decodeManifest(Buffer.from(canonicalJson({ manifest_version: version })))),
      'version',
    );
  }
  assert.equal(
    reasonOf(() => decodeManifest(Buffer.from('{"a":1}'))),
    'version',
  );
});

test('kind, format and encoding have reasons of their own', () => {
  for (const field of ['kind', 'format', 'encoding']) {
    assert.equal(
      reasonOf(() => decodeManifest(resealed((fields) => (fields[field] = 'other')))),
      field,
    );
  }
});

test('a refusal shows nothing of the artifact that a terminal would obey', () => {
  const hostile = resealed((all) => (all['table_counts'] = { '\u001b[31m\u009b\u202e\n': -1 }));
  assert.throws(() => decodeManifest(hostile), {
    message: /^manifest: table_counts\.\\u\{1b\}\[31m\\u\{9b\}\\u\{202e\}\\u\{a\}: /,
  });
});

test('refused: larger than the cap, without parsing it', () => {
  assert.equal(
    reasonOf(() => decodeManifest(Buffer.alloc(MAX_MANIFEST_BYTES + 1, '['))),
    'size',
  );
});

test('refused: a checksum of other content', () => {
  const text = BYTES.toString().replace('"payload_bytes":7', '"payload_bytes":8');
  assert.throws(() => decodeManifest(Buffer.from(text)), /^ErrVerify: manifest: its checksum/);
});
