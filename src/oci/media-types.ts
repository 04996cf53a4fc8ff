/** Types of manifests: OCI image specification v1.1 (media-types.md), and Docker's, which came before it. */

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** All a registry may have: asked for one it has not, it may convert, or deny that there is anything. */
export const MANIFEST_TYPES: readonly string[] = [
  OCI_MANIFEST,
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
