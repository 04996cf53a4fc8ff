/**
 * The memory of a VM that was saved: `<vm>/saved/` with memory, state and manifest.json, which fits the VM's disks as long as
 * its guest has not run since. `ran` in it says that it may have: then nothing can go on from it any more.
 *
 * Whoever lets a guest run makes sure before, durably: by `ran` when it goes on from this memory, else by dropping it. So
 * memory without `ran` is whole and fits, whatever a row says and whatever crashed.
 */

import { lstat, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../../../core/errors.ts';
import {
  type FrozenMachine,
  frozenPaths,
  MANIFEST_FILE,
  MANIFEST_VERSION,
  memorySchema,
  readFrozenManifest,
  stateSchema,
  writeFrozenManifest,
} from '../../../frozen/manifest.ts';
import { fileError, makeTemporaryDir, publishDir, removeTree, syncDir } from '../../../host/files.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { sparseDigest } from '../../../host/sparse-digest.ts';
import type { Machine } from '../../../vmm/driver.ts';
import type { VmFiles } from '../../vm-files.ts';
import { readMachineFacts } from './machine-facts.ts';
import type { FrozenFile } from '../images/file-verifier.ts';

const RAN_FILE = 'ran';

const savedSchema = z.strictObject({
  kind: z.literal('saved'),
  manifestVersion: z.literal(MANIFEST_VERSION),
  rootDiskBytes: z.number().int().positive(),
  memory: memorySchema,
  state: stateSchema,
});

export interface SavedMemory {
  readonly frozen: FrozenMachine;
  readonly memory: FrozenFile;
}

/**
 * Of a paused machine, which stays paused: to be ended before anything else happens to it.
 * @throws {BangerError} as Machine.save; nothing is left then
 */
export async function saveMemory(
  machine: Machine,
  vm: { readonly name: string; readonly memoryMib: number; readonly diskSizeBytes: number },
  files: VmFiles,
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<void> {
  await readMachineFacts(files, vm.name);
  const temporary = await makeTemporaryDir(files.savedDir);
  try {
    const { memory, state } = frozenPaths(temporary);
    const saved = await machine.save({ statePath: state, memoryPath: memory, durable: false, signal });
    await writeFrozenManifest(temporary, {
      kind: 'saved',
      manifestVersion: MANIFEST_VERSION,
      rootDiskBytes: vm.diskSizeBytes,
      memory: {
        sizeBytes: vm.memoryMib * 1024 ** 2,
        sparseSha256: await sparseDigest(memory, runner, signal),
      },
      state: { sizeBytes: saved.sizeBytes, sha256: saved.sha256 },
    } satisfies z.infer<typeof savedSchema>);
    if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
    await publishDir(temporary, files.savedDir, { replace: true });
  } catch (error) {
    await removeTree(temporary, { below: files.dir });
    throw error;
  }
}

/** Whether there is memory that fits the VM's disks. It may be damaged all the same. @throws {BangerError} `io_error` */
export async function hasSavedMemory({ savedDir }: VmFiles): Promise<boolean> {
  return (await isThere(join(savedDir, MANIFEST_FILE))) && !(await isThere(join(savedDir, RAN_FILE)));
}

/** Whether the guest may have run since its memory was saved. @throws {BangerError} `io_error` */
export async function hasRun({ savedDir }: VmFiles): Promise<boolean> {
  return await isThere(join(savedDir, RAN_FILE));
}

/**
 * What a VM can go on from; undefined when there is nothing, or its guest has run since.
 * @throws {BangerError} `io_error` (damaged), `limit_exceeded`, `invalid_state`
 */
export async function findSavedMemory(files: VmFiles, vmName: string): Promise<SavedMemory | undefined> {
  const dir = files.savedDir;
  if (!(await hasSavedMemory(files))) return undefined;
  const manifest = await readFrozenManifest(dir, savedSchema);
  if (manifest === undefined) return undefined;
  const { shape, digests } = await readMachineFacts(files, vmName);
  const { state, rootDiskBytes } = manifest;
  return {
    frozen: { dir, shape, initramfsSha256: digests.initramfs, state, rootDiskBytes },
    memory: { path: frozenPaths(dir).memory, ...manifest.memory },
  };
}

/** The guest is about to run: from now on its disks may be others than those that the memory fits. */
export async function markAsRan({ savedDir }: VmFiles): Promise<void> {
  await using file = await open(join(savedDir, RAN_FILE), 'w', 0o600);
  await file.sync();
  await syncDir(savedDir);
}

/** Idempotent. The manifest goes first, and for good: what is left after a crash or a power cut is nobody's memory. */
export async function dropSavedMemory(files: VmFiles): Promise<void> {
  const { savedDir, dir } = files;
  if (await hasSavedMemory(files)) {
    await rm(join(savedDir, MANIFEST_FILE), { force: true });
    await syncDir(savedDir);
  }
  await removeTree(savedDir, { below: dir });
}

/** What cannot be looked at counts as neither there nor gone. */
async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw fileError(`cannot look at ${path}`, error);
  }
}
