/** What lies beside the files of a frozen machine: everything that must be true for it to be restored. */

import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { readJsonFile, writeFileAtomic } from '../host/files.ts';

export const MANIFEST_FILE = 'manifest.json';
const MEMORY_FILE = 'memory';
const STATE_FILE = 'state';
const ROOT_DISK_FILE = 'root.qcow2';
const TRANSFER_DISK_FILE = 'transfer.img';
/** Of st_blocks: stat(2). */
const BLOCK_BYTES = 512;

export const MANIFEST_VERSION = 1;
const MAX_MANIFEST_BYTES = 256 * 1024;

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const sizeBytes = z.number().int().nonnegative();
const text = z.string().max(4096);

/** What every frozen machine says of itself, whoever it was. */
export const machineFields = {
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
  /** What the guest sees of its root disk. */
  rootDiskBytes: sizeBytes,
} as const;

/** What the parts that are files must be. `sparseSha256`: host/sparse-digest.ts. */
export const memorySchema = z.strictObject({ sizeBytes, sparseSha256: digest });
export const stateSchema = z.strictObject({ sizeBytes, sha256: digest });

/** A machine that can be restored: the directory with its files (frozenPaths), and what the driver must know of them. */
export interface FrozenMachine {
  readonly dir: string;
  readonly shape: Readonly<Record<string, string>>;
  readonly initramfsSha256: string;
  readonly state: z.infer<typeof stateSchema>;
  readonly rootDiskBytes: number;
}

/** The names of the files of a frozen machine in its directory. */
export const frozenFileNames = {
  memory: MEMORY_FILE,
  state: STATE_FILE,
  rootDisk: ROOT_DISK_FILE,
  transferDisk: TRANSFER_DISK_FILE,
} as const;

export function frozenPaths(dir: string) {
  return {
    memory: join(dir, MEMORY_FILE),
    state: join(dir, STATE_FILE),
    rootDisk: join(dir, ROOT_DISK_FILE),
    transferDisk: join(dir, TRANSFER_DISK_FILE),
  } as const;
}

/** Whether a state still is what was written; false, too, when it cannot be read. The driver checks again what it loads. */
export async function isWholeState(path: string, state: FrozenMachine['state']): Promise<boolean> {
  try {
    if ((await stat(path)).size !== state.sizeBytes) return false;
    return (
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex') === state.sha256
    );
  } catch {
    return false;
  }
}

/** Blocks on the disk of all files directly in a directory. */
export async function allocatedBytes(dir: string): Promise<number> {
  const names = await readdir(dir).catch(() => []);
  const blocks = await Promise.all(
    names.map(async (name) => (await stat(join(dir, name)).catch(() => undefined))?.blocks ?? 0),
  );
  return blocks.reduce((sum, count) => sum + count * BLOCK_BYTES, 0);
}

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
