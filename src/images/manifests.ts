/** The manifests beside artifacts: what a directory of images or kernels holds, checked before it is believed. */

import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { ImageManifest, KernelManifest } from '../core/model/image.ts';
import { readJsonFile } from '../host/files.ts';

export const MANIFEST_FILE = 'manifest.json';
export const MANIFEST_VERSION = 1;
const MAX_MANIFEST_BYTES = 1024 * 1024;
const MAX_PACKAGES = 20_000;
const MAX_MODULES = 256;

const text = z.string().max(4096);
const sizeBytes = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const arch = z.enum(['amd64', 'arm64']);
/** Relative, below the directory of the manifest. */
const file = z
  .string()
  .max(512)
  .regex(/^[^/\0][^\0]*$/)
  .refine((path) => !path.split('/').some((part) => part === '' || part === '.' || part === '..'), {
    message: 'is not a path below the directory',
  });
const moduleFiles = z.array(file).max(MAX_MODULES);

const imageSchema = z.strictObject({
  manifestVersion: z.literal(MANIFEST_VERSION),
  name: text,
  distro: text,
  arch,
  kernelName: text,
  rootfs: z.strictObject({
    file,
    format: z.enum(['raw', 'qcow2']),
    sizeBytes,
    virtualSizeBytes: sizeBytes,
    sha256,
  }),
  source: text,
  builtAt: text,
  packages: z.array(z.string().max(512)).max(MAX_PACKAGES),
});

const kernelSchema = z.strictObject({
  manifestVersion: z.literal(MANIFEST_VERSION),
  name: text,
  distro: text,
  arch,
  release: text,
  vmlinux: z.strictObject({ file, sizeBytes, sha256 }),
  modules: z.strictObject({
    mmio: moduleFiles,
    pci: moduleFiles,
    vsock: moduleFiles.optional(),
  }),
  source: text,
  importedAt: text,
});

/**
 * The manifest of an image's directory; undefined when there is none.
 * @throws {BangerError} `version_mismatch` (made by a newer banger), `io_error` (damaged), `limit_exceeded`
 */
export function readImageManifest(dir: string): Promise<ImageManifest | undefined> {
  return readManifest('image', dir, imageSchema);
}

/** The manifest of a kernel's directory. As readImageManifest. */
export function readKernelManifest(dir: string): Promise<KernelManifest | undefined> {
  return readManifest('kernel', dir, kernelSchema);
}

/** The bytes of a manifest file; the same for the same manifest. */
export function formatManifest(manifest: ImageManifest | KernelManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

async function readManifest<T>(kind: string, dir: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const path = join(dir, MANIFEST_FILE);
  const json = await readJsonFile(path, MAX_MANIFEST_BYTES);
  if (json === undefined) return undefined;
  const version = z.looseObject({ manifestVersion: z.number() }).safeParse(json);
  if (version.success && version.data.manifestVersion !== MANIFEST_VERSION) {
    throw new BangerError(
      'version_mismatch',
      `${path} has manifest version ${version.data.manifestVersion}; this banger reads version ${MANIFEST_VERSION}`,
      { hint: `use the banger that made it, or remove ${dir} and build the ${kind} again` },
    );
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new BangerError('io_error', `${path} is damaged: ${z.prettifyError(result.error)}`, {
    hint: `remove ${dir} and build the ${kind} again`,
  });
}
