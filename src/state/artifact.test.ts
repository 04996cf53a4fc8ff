import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import { snapshotOf, smallState } from '../../test/helpers/state-fixture.ts';
import { decodeArtifact, encodeArtifact } from './artifact.ts';
import { digestOf } from '../oci/digest.ts';

test('one snapshot, one text: whoever pushes it, it has the same digest', () => {
  const { manifest, manifestBytes } = snapshotOf(smallState(), 'zstd');
  const config = { digest: digestOf(manifestBytes), size: manifestBytes.length };
  const hex = manifest.checksum.slice('sha256:'.length);
  assert.equal(
    encodeArtifact(manifest, config).toString(),
    `{"annotations":{"org.opencontainers.image.created":"2026-02-01T00:00:00.000Z",` +
      `"org.opencontainers.image.title":"banger state ${manifest.checksum}"},` +
      `"artifactType":"application/vnd.banger.state.snapshot.v1",` +
      `"config":{"digest":"${config.digest}",` +
      `"mediaType":"application/vnd.banger.state.snapshot.config.v1+json","size":${config.size}},` +
      `"layers":[{"annotations":{"org.opencontainers.image.title":"${hex}.sql.zst"},` +
      `"digest":"${manifest.encoded_checksum}",` +
      `"mediaType":"application/vnd.banger.state.snapshot.v1.sql+zstd","size":${manifest.encoded_bytes}}],` +
      `"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}`,
  );
});

test('what was encoded is decoded, also when somebody annotated it', () => {
  for (const encoding of ['identity', 'zstd'] as const) {
    const { manifest, manifestBytes } = snapshotOf(smallState(), encoding);
    const config = { digest: digestOf(manifestBytes), size: manifestBytes.length };
    const layer = { digest: manifest.encoded_checksum, size: manifest.encoded_bytes, encoding };
    const bytes = encodeArtifact(manifest, config);
    assert.deepEqual(decodeArtifact(bytes, OCI_MANIFEST), { config, layer });
    const annotated = { ...(JSON.parse(bytes.toString()) as object), annotations: { 'com.example.by': 'x' } };
    assert.deepEqual(decodeArtifact(Buffer.from(JSON.stringify(annotated)), OCI_MANIFEST), { config, layer });
  }
});
