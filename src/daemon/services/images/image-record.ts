/** The row of an image from the directories it and its kernel lie in. */

import { join } from 'node:path';
import type { ImageManifest, ImageRecord } from '../../../core/model/image.ts';
import type { LocalKernel } from './kernel-service.ts';

export interface ImageFacts {
  readonly id: string;
  /** Absolute path of the image's own directory, published. */
  readonly dir: string;
  readonly manifest: ImageManifest;
  readonly kernel: LocalKernel;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** Pure: nothing is looked at. */
export function imageRecord({ id, dir, manifest, kernel, createdAt, updatedAt }: ImageFacts): ImageRecord {
  return {
    id,
    name: manifest.name,
    managed: true,
    artifactDir: dir,
    rootfsPath: join(dir, manifest.rootfs.file),
    workSeedPath: null,
    kernelPath: join(kernel.dir, kernel.manifest.vmlinux.file),
    initrdPath: '',
    modulesDir: join(kernel.dir, 'modules'),
    buildSize: String(manifest.rootfs.sizeBytes),
    seededSshPublicKeyFingerprint: null,
    createdAt,
    updatedAt,
  };
}
