/** The manifests beside artifacts: what a directory of images or kernels holds, checked before it is believed. */

import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { ImageManifest, KernelManifest } from '../core/model/image.ts';
import { isErrno } from './publish.ts';

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
  modules: z.strictObject({ mmio: moduleFiles, pci: moduleFiles }),
  source: text,
  importedAt: text,
});

/**
 * The manifest of an image's directory.
 * @throws {BangerError} `not_found`, `version_mismatch` (made by a newer banger), `io_error` (damaged)
 */
export function readImageManifest(dir: string): Promise<ImageManifest> {
  return readManifest('image', dir, imageSchema);
}

/** The manifest of a kernel's directory. Errors as in readImageManifest. */
export function readKernelManifest(dir: string): Promise<KernelManifest> {
  return readManifest('kernel', dir, kernelSchema);
}

/** The bytes of a manifest file; the same for the same manifest. */
export function formatManifest(manifest: ImageManifest | KernelManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

async function readManifest<T>(kind: string, dir: string, schema: z.ZodType<T>): Promise<T> {
  const path = join(dir, MANIFEST_FILE);
  const json = parseJson(path, await readBounded(kind, path));
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
  throw damaged(path, z.prettifyError(result.error));
}

async function readBounded(kind: string, path: string): Promise<string> {
  try {
    await using handle = await open(path, 'r');
    const { size } = await handle.stat();
    if (size > MAX_MANIFEST_BYTES) throw damaged(path, `it has ${size} bytes`);
    return (await handle.readFile()).toString('utf8');
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT') && !isErrno(cause, 'ENOTDIR')) throw cause;
    throw new BangerError('not_found', `there is no ${kind} at ${path}`, { cause });
  }
}

function parseJson(path: string, content: string): unknown {
  try {
    return JSON.parse(content);
  } catch (cause) {
    throw damaged(path, 'it is not JSON', cause);
  }
}

function damaged(path: string, why: string, cause?: unknown): BangerError {
  return new BangerError('io_error', `${path} is damaged: ${why}`, { cause });
}
