/** What VM and image directories say of themselves. Read, never changed, and not believed before it is checked. */

import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../../core/errors.ts';
import type { ImageManifest } from '../../../core/model/image.ts';
import { assertImageName } from '../../../core/names.ts';
import { listDir } from '../../../host/files.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { readImageManifest, readKernelManifest } from '../../../images/manifests.ts';
import { vmFiles } from '../../vm-files.ts';
import { listVmDirs, readVmRecord, type VmRecordFile } from '../../vm-record-file.ts';
import type { LocalKernel } from '../images/kernel-service.ts';

/** Of either kind; a host has some hundreds. */
const MAX_DIRS = 10_000;

export interface FoundImage {
  readonly dir: string;
  readonly manifest: ImageManifest;
  readonly kernel: LocalKernel;
}

export interface FoundVm {
  readonly dir: string;
  readonly record: VmRecordFile;
  /** It was started once: its own disk is there. */
  readonly hasDisk: boolean;
}

export interface Skipped {
  readonly path: string;
  readonly why: string;
}

export interface RebuildSources {
  /** By name. */
  readonly images: readonly FoundImage[];
  /** Oldest first; of one instant, by id. */
  readonly vms: readonly FoundVm[];
  readonly skipped: readonly Skipped[];
}

/**
 * Looks at every directory of images and VMs. One that cannot be used is skipped with the reason.
 * @throws {BangerError} `limit_exceeded`: more than 10,000 of a kind; `permission`, `io_error`, `cancelled`
 */
export async function findRebuildSources(paths: BangerPaths, signal: AbortSignal): Promise<RebuildSources> {
  const skipped: Skipped[] = [];
  const names = (await listDir(paths.imagesDir)).filter((name) => !name.startsWith('.'));
  const dirs = await listVmDirs(paths.vmsDir);
  assertFew(paths.imagesDir, names.length);
  assertFew(paths.vmsDir, dirs.length);
  const collect = async <T>(path: string, read: () => Promise<T>): Promise<readonly T[]> => {
    if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
    try {
      return [await read()];
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      skipped.push({ path, why: error.message });
      return [];
    }
  };
  const images: FoundImage[] = [];
  for (const name of names) {
    images.push(...(await collect(join(paths.imagesDir, name), () => readImage(paths, name))));
  }
  const vms: FoundVm[] = [];
  for (const { id, recorded } of dirs) {
    const { dir } = vmFiles(paths, id);
    if (recorded) vms.push(...(await collect(dir, () => readVm(paths, id))));
    else skipped.push({ path: dir, why: NO_RECORD });
  }
  return { images, vms: vms.sort(byAge), skipped };
}

/** Ephemeral VMs, and creations and deletions that a crash ended: vm-record-file.ts. */
const NO_RECORD = 'it has no vm.json: it is of a VM that was not to be kept, and the next daemon removes it';

function assertFew(dir: string, count: number): void {
  if (count <= MAX_DIRS) return;
  throw new BangerError('limit_exceeded', `${dir} has ${count} directories; the limit is ${MAX_DIRS}`);
}

async function readImage(paths: BangerPaths, name: string): Promise<FoundImage> {
  assertImageName(name);
  const dir = join(paths.imagesDir, name);
  const manifest = await readImageManifest(dir);
  if (manifest === undefined) throw new BangerError('not_found', 'it has no manifest');
  if (manifest.name !== name) {
    throw new BangerError(
      'io_error',
      `its manifest is of image ${JSON.stringify(manifest.name.slice(0, 80))}`,
    );
  }
  const { file, format, virtualSizeBytes } = manifest.rootfs;
  const rootfs = join(dir, file);
  // Sparse: the size that a manifest gives first is of the blocks it occupied where it was made.
  const size = format === 'raw' ? virtualSizeBytes : undefined;
  if (!(await isFileOf(rootfs, size))) {
    const bytes = size === undefined ? '' : ` of ${size} bytes`;
    throw new BangerError('io_error', `${rootfs} is not there, or not the file${bytes} it should be`);
  }
  return { dir, manifest, kernel: await readKernel(paths, manifest.kernelName) };
}

async function readKernel(paths: BangerPaths, name: string): Promise<LocalKernel> {
  assertImageName(name, 'kernel');
  const dir = join(paths.kernelsDir, name);
  const manifest = await readKernelManifest(dir);
  if (manifest !== undefined) return { dir, manifest };
  throw new BangerError('not_found', `the kernel it boots with, "${name}", is not in ${dir}`);
}

async function readVm(paths: BangerPaths, id: string): Promise<FoundVm> {
  const { dir, rootDisk } = vmFiles(paths, id);
  const record = await readVmRecord(dir, id);
  if (record === undefined) throw new BangerError('not_found', 'it is being removed');
  return { dir, record, hasDisk: await isAnything(rootDisk) };
}

/** A link to a disk is a disk, and one that cannot be looked at may be: it is never taken for a VM without one. */
async function isAnything(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

async function isFileOf(path: string, sizeBytes?: number): Promise<boolean> {
  const stat = await lstat(path).catch(() => undefined);
  return stat?.isFile() === true && (sizeBytes === undefined || stat.size === sizeBytes);
}

/** One order on every host, so that collisions are always resolved in the same way. */
function byAge(one: FoundVm, other: FoundVm): number {
  const [a, b] = [one, other].map(({ record }) => `${record.createdAt} ${record.id}`);
  return (a ?? '') < (b ?? '') ? -1 : 1;
}
