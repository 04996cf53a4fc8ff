/** What lies beside the files of a frozen machine: everything that must be true for it to be restored. */

import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { readJsonFile, writeFileAtomic } from '../host/files.ts';

export const MANIFEST_FILE = 'manifest.json';
export const MEMORY_FILE = 'memory';
export const STATE_FILE = 'state';
export const ROOT_DISK_FILE = 'root.qcow2';

const MANIFEST_VERSION = 1;
const MAX_MANIFEST_BYTES = 256 * 1024;

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const sizeBytes = z.number().int().nonnegative();
const text = z.string().max(4096);

/** What every frozen machine needs, whoever it was. */
export const frozenFields = {
  manifestVersion: z.literal(MANIFEST_VERSION),
  createdAt: text,
  /** What the driver says it depends on: MachineShape in vmm/shape.ts. */
  shape: z.record(z.string().max(64), z.string().max(16_384)),
  kernel: z.strictObject({ name: text, sha256: digest }),
  initramfsSha256: digest,
  image: z.strictObject({ name: text, rootfsSha256: digest }),
  vcpus: z.number().int().positive(),
  memoryMib: z.number().int().positive(),
  accelerator: z.enum(['kvm', 'tcg']),
  machine: text,
  rootDiskBytes: sizeBytes,
  /** `sparseSha256`: host/sparse-digest.ts. */
  memory: z.strictObject({ sizeBytes, sparseSha256: digest }),
  state: z.strictObject({ sizeBytes, sha256: digest }),
} as const;

/**
 * Undefined when there is none.
 * @throws {BangerError} `io_error` (damaged, or of another version), `limit_exceeded`
 */
export async function readFrozenManifest<T>(dir: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const path = join(dir, MANIFEST_FILE);
  const json = await readJsonFile(path, MAX_MANIFEST_BYTES);
  if (json === undefined) return undefined;
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new BangerError('io_error', `${path} is damaged: ${z.prettifyError(result.error)}`);
}

export async function writeFrozenManifest(dir: string, manifest: object): Promise<void> {
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  await writeFileAtomic(join(dir, MANIFEST_FILE), text, { mode: 0o600, durable: false });
}
