/** Snapshots in registries: nothing leaves and nothing comes in that `verify` would refuse. */

import { digestOf } from '../oci/digest.ts';
import { MANIFEST_TYPES, OCI_MANIFEST } from '../oci/media-types.ts';
import type { RegistryClient } from '../oci/registry.ts';
import type { Migration } from '../store/migrations/migration.ts';
import { type ArtifactBlobs, decodeArtifact, encodeArtifact } from './artifact.ts';
import { ErrVerify } from './errors.ts';
import { decodeManifest } from './manifest.ts';
import type { SnapshotBytes } from './snapshot-files.ts';
import { type VerifiedSnapshot, verify } from './verify.ts';

/** Called with the bytes that are done and those there will be. */
export type OnTransfer = (doneBytes: number, totalBytes: number) => void;

export interface TransferOptions {
  readonly migrations: readonly Migration[];
  readonly onTransfer?: OnTransfer;
}

export interface PushOptions extends TransferOptions {
  /** Moved to this snapshot. Without one it can only be pulled by digest. */
  readonly tag?: string;
}

export interface PushedSnapshot {
  /** Of the OCI manifest: what a pull takes. */
  readonly digest: string;
  /** Of the snapshot. */
  readonly snapshot: string;
  /** Of the blobs the registry did not have. */
  readonly uploadedBytes: number;
}

/**
 * Puts a snapshot into the client's repository. Pushing it again changes nothing.
 * @throws {ErrVerify} before anything is sent
 * @throws {BangerError} as RegistryClient
 */
export async function pushSnapshot(
  client: RegistryClient,
  snapshot: SnapshotBytes,
  options: PushOptions,
): Promise<PushedSnapshot> {
  const { data, manifestBytes } = snapshot;
  const { manifest } = verify(data, manifestBytes, { migrations: options.migrations });
  const config = { digest: digestOf(manifestBytes), size: manifestBytes.length };
  const layer = { digest: manifest.encoded_checksum, size: data.length };
  const missing: { digest: string; size: number; bytes: Buffer }[] = [];
  if (!(await client.hasBlob(config))) missing.push({ ...config, bytes: manifestBytes });
  if (!(await client.hasBlob(layer))) missing.push({ ...layer, bytes: data });
  const total = missing.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { bytes, ...blob } of missing) {
    const before = done;
    await client.putBlob(blob, bytes, (sent) => options.onTransfer?.(before + sent, total));
    done += blob.size;
  }
  const artifact = encodeArtifact(manifest, config);
  const digest = digestOf(artifact);
  await client.putManifest(digest, OCI_MANIFEST, artifact);
  if (options.tag !== undefined) await client.putManifest(options.tag, OCI_MANIFEST, artifact);
  return { digest, snapshot: manifest.checksum, uploadedBytes: total };
}

export interface PulledSnapshot extends SnapshotBytes {
  /** Of the OCI manifest: what the tag resolved to. */
  readonly digest: string;
  readonly verified: VerifiedSnapshot;
}

/**
 * Fetches and verifies a snapshot; writes nothing.
 * @param version digest of the OCI manifest, or a tag
 * @throws {ErrVerify} it is none, or not for this program
 * @throws {BangerError} as RegistryClient
 */
export async function pullSnapshot(
  client: RegistryClient,
  version: string,
  options: TransferOptions,
): Promise<PulledSnapshot> {
  const artifact = await client.getManifest(version, MANIFEST_TYPES);
  const blobs = decodeArtifact(artifact.bytes, artifact.mediaType);
  const total = blobs.config.size + blobs.layer.size;
  const report = (before: number) => (received: number) => options.onTransfer?.(before + received, total);
  const manifestBytes = await client.getBlob(blobs.config, report(0));
  // Before a payload is fetched that cannot be the right one.
  assertDescribes(blobs, manifestBytes);
  const data = await client.getBlob(blobs.layer, report(blobs.config.size));
  const verified = verify(data, manifestBytes, { migrations: options.migrations });
  return { digest: artifact.digest, data, manifestBytes, verified };
}

function assertDescribes(blobs: ArtifactBlobs, manifestBytes: Buffer): void {
  const { encoded_checksum, encoded_bytes, encoding } = decodeManifest(manifestBytes);
  const { layer } = blobs;
  if (layer.digest === encoded_checksum && layer.size === encoded_bytes && layer.encoding === encoding)
    return;
  throw new ErrVerify('manifest', 'the artifact holds another payload than its snapshot manifest says');
}
