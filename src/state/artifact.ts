/**
 * A snapshot as an OCI artifact: the image manifest that describes it. OCI image specification v1.1, manifest.md,
 * "Guidelines for Artifact Usage": a config and layers of types of our own.
 */

import { z } from 'zod';
import type { SnapshotEncoding, SnapshotManifest } from '../core/model/snapshot.ts';
import { OCI_MANIFEST } from '../oci/media-types.ts';
import { canonicalJson } from './canonical-json.ts';
import { ErrVerify } from './errors.ts';
import { MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES } from './manifest.ts';
import { hexOf } from './snapshot-names.ts';

const ARTIFACT_TYPE = 'application/vnd.banger.state.snapshot.v1';
const CONFIG_TYPE = 'application/vnd.banger.state.snapshot.config.v1+json';
const LAYER_TYPES: Readonly<Record<SnapshotEncoding, string>> = {
  identity: 'application/vnd.banger.state.snapshot.v1.sql',
  zstd: 'application/vnd.banger.state.snapshot.v1.sql+zstd',
};
const FILE_SUFFIXES: Readonly<Record<SnapshotEncoding, string>> = { identity: '.sql', zstd: '.sql.zst' };

export interface Blob {
  readonly digest: string;
  readonly size: number;
}

export interface ArtifactBlobs {
  /** The snapshot's manifest. */
  readonly config: Blob;
  /** Its payload as encoded. */
  readonly layer: Blob & { readonly encoding: SnapshotEncoding };
}

/** The same bytes for the same snapshot and manifest, always. `config`: of the manifest's bytes. */
export function encodeArtifact(manifest: SnapshotManifest, config: Blob): Buffer {
  const { encoding } = manifest;
  const title = hexOf(manifest.checksum) + FILE_SUFFIXES[encoding];
  const json = canonicalJson({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: ARTIFACT_TYPE,
    config: { mediaType: CONFIG_TYPE, digest: config.digest, size: config.size },
    layers: [
      {
        mediaType: LAYER_TYPES[encoding],
        digest: manifest.encoded_checksum,
        size: manifest.encoded_bytes,
        // What oras calls the file it makes of a layer.
        annotations: { 'org.opencontainers.image.title': title },
      },
    ],
    annotations: {
      'org.opencontainers.image.created': manifest.created_at,
      'org.opencontainers.image.title': `banger state ${manifest.checksum}`,
    },
  });
  return Buffer.from(json);
}

const MAX_ANNOTATIONS = 100;
const annotations = z
  .record(z.string().max(1024), z.string().max(16 * 1024))
  .refine((all) => Object.keys(all).length <= MAX_ANNOTATIONS, 'too many');
const descriptor = z.strictObject({
  mediaType: z.string().max(255),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  size: z.int().nonnegative(),
  annotations: annotations.optional(),
});
const shape = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: z.literal(OCI_MANIFEST),
  artifactType: z.literal(ARTIFACT_TYPE),
  config: descriptor,
  layers: z.array(descriptor).length(1),
  annotations: annotations.optional(),
});

/**
 * What there is to fetch.
 * @param mediaType as the registry named it
 * @throws {ErrVerify} `kind` (something else than a snapshot), `manifest` (malformed), `size` (larger than any of ours)
 */
export function decodeArtifact(bytes: Buffer, mediaType: string): ArtifactBlobs {
  if (mediaType !== OCI_MANIFEST) throw notOurs(`of the type ${JSON.stringify(mediaType.slice(0, 100))}`);
  const value = parseJson(bytes);
  const type = (value as { artifactType?: unknown } | null | undefined)?.artifactType;
  if (type !== ARTIFACT_TYPE) {
    throw notOurs(
      typeof type === 'string' ? `a ${JSON.stringify(type.slice(0, 100))}` : 'an image, it seems',
    );
  }
  const parsed = shape.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ErrVerify(
      'manifest',
      `of the artifact: ${issue?.path.join('.')}: ${issue?.message}`.slice(0, 512),
    );
  }
  const { config, layers } = parsed.data;
  const [layer] = layers;
  const encoding = (['identity', 'zstd'] as const).find((one) => LAYER_TYPES[one] === layer?.mediaType);
  if (layer === undefined || encoding === undefined || config.mediaType !== CONFIG_TYPE) {
    throw new ErrVerify('manifest', 'of the artifact: its parts are of types that a snapshot does not have');
  }
  assertSize('manifest', config.size, MAX_MANIFEST_BYTES);
  assertSize('payload', layer.size, MAX_PAYLOAD_BYTES);
  return {
    config: { digest: config.digest, size: config.size },
    layer: { digest: layer.digest, size: layer.size, encoding },
  };
}

function assertSize(what: string, size: number, max: number): void {
  if (size <= max) return;
  throw new ErrVerify('size', `a ${what} of ${size} bytes, more than ${max}`);
}

function notOurs(what: string): ErrVerify {
  return new ErrVerify('kind', `not a snapshot of banger’s state, but ${what}`);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ErrVerify('manifest', 'of the artifact: not JSON', { cause });
  }
}
