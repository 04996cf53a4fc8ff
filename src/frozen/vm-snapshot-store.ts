/**
 * Snapshots of VMs on disk: a moment of a VM, kept until somebody deletes it. A snapshot is its directory; no database
 * knows of it, so none can lose it.
 *
 *   <state>/vm-snapshots/<id>/   manifest.json, root.qcow2 (over the image's root file system), transfer.img,
 *                                and memory, state where it was taken of a running VM
 *
 * A directory appears under its id whole, by a rename, and is never changed.
 */

import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError, errorText } from '../core/errors.ts';
import { assertVmName, isId } from '../core/names.ts';
import { createDraft, type Draft, isErrno } from '../host/drafts.ts';
import { fileError, removeTree, sweepTemporaries } from '../host/files.ts';
import { specSchema, workspaceSchema } from '../store/vm-row.ts';
import {
  allocatedBytes,
  type FrozenMachine,
  machineFields,
  MANIFEST_FILE,
  MANIFEST_VERSION,
  memorySchema,
  readFrozenManifest,
  stateSchema,
  writeFrozenManifest,
} from './manifest.ts';

/** As names of VMs. @throws {BangerError} `bad_request` */
export function assertSnapshotName(name: string): void {
  try {
    assertVmName(name);
  } catch (cause) {
    throw new BangerError('bad_request', `"${name}" cannot be the name of a snapshot`, {
      hint: 'a-z, 0-9 and hyphens, at most 63, with a letter or digit at both ends',
      cause,
    });
  }
}

const id = z.string().refine(isId, { message: 'is not an id' });
const vmName = z.string().refine(isVmName, { message: 'is not a name of a VM' });

export const vmSnapshotSchema = z.strictObject({
  kind: z.literal('snapshot'),
  id,
  name: vmName,
  ...machineFields,
  /** Came from a file: `vm.id` is then nobody's. */
  imported: z.boolean().default(false),
  vm: z.strictObject({ id, name: vmName, spec: specSchema, workspace: workspaceSchema.nullable() }),
  /** Null: the disk only. */
  memory: memorySchema.nullable(),
  state: stateSchema.nullable(),
  rootDisk: memorySchema,
  /** What the workspace was shipped on; sparse, empty without one. */
  transferDisk: memorySchema,
});
export type VmSnapshotManifest = z.infer<typeof vmSnapshotSchema>;

export interface VmSnapshot {
  readonly dir: string;
  readonly manifest: VmSnapshotManifest;
}

/** One whose directory cannot be used as it is. */
export interface BrokenVmSnapshot {
  readonly id: string;
  readonly dir: string;
  readonly problem: string;
}

export class VmSnapshotStore {
  readonly #dir: string;

  constructor(vmSnapshotsDir: string) {
    this.#dir = vmSnapshotsDir;
  }

  /** @throws {BangerError} `io_error` (damaged), `limit_exceeded` */
  async find(snapshotId: string): Promise<VmSnapshot | undefined> {
    const dir = join(this.#dir, snapshotId);
    const manifest = await readFrozenManifest(dir, vmSnapshotSchema);
    if (manifest === undefined) return undefined;
    if (manifest.id === snapshotId) return { dir, manifest };
    throw new BangerError('io_error', `${dir} holds the snapshot ${manifest.id}`);
  }

  /** Oldest first. */
  async list(): Promise<{
    readonly whole: readonly VmSnapshot[];
    readonly broken: readonly BrokenVmSnapshot[];
  }> {
    const whole: VmSnapshot[] = [];
    const broken: BrokenVmSnapshot[] = [];
    for (const one of await this.#ids()) {
      try {
        const snapshot = await this.find(one);
        if (snapshot !== undefined) whole.push(snapshot);
      } catch (error) {
        if (!(error instanceof BangerError)) throw error;
        broken.push({ id: one, dir: join(this.#dir, one), problem: errorText(error) });
      }
    }
    whole.sort((a, b) => (a.manifest.createdAt < b.manifest.createdAt ? -1 : 1));
    return { whole, broken };
  }

  /** A directory to fill: `publish` makes it the snapshot of this id. */
  async draft(snapshotId: string): Promise<Draft> {
    return await createDraft(this.#dir, snapshotId);
  }

  async writeManifest(
    draft: Draft,
    manifest: Omit<VmSnapshotManifest, 'manifestVersion' | 'kind' | 'imported'> & { imported?: boolean },
  ): Promise<VmSnapshotManifest> {
    const whole = {
      kind: 'snapshot',
      manifestVersion: MANIFEST_VERSION,
      imported: false,
      ...manifest,
    } satisfies VmSnapshotManifest;
    await writeFrozenManifest(draft.dir, whole);
    return whole;
  }

  async sizeBytes({ dir }: { readonly dir: string }): Promise<number> {
    return await allocatedBytes(dir);
  }

  /** VMs that were started from it go on. Without its manifest it is none any more, however far the removal comes. */
  async remove(snapshotId: string): Promise<void> {
    if (!isId(snapshotId)) throw new BangerError('bad_request', `"${snapshotId}" is no snapshot's id`);
    const dir = join(this.#dir, snapshotId);
    await rm(join(dir, MANIFEST_FILE), { force: true }).catch((error: unknown) => {
      throw fileError(`cannot remove ${dir}`, error);
    });
    await removeTree(dir, { below: this.#dir });
  }

  /** What killed processes left half made or half removed, and nothing that somebody else put here. */
  async leftovers(): Promise<readonly string[]> {
    const ids = (await this.#ids()).map((one) => join(this.#dir, one));
    const without = await Promise.all(ids.map(async (dir) => ((await hasManifest(dir)) ? [] : [dir])));
    return without.flat();
  }

  /** Only while nobody makes or removes one. */
  async sweep(): Promise<readonly string[]> {
    const left = await this.leftovers();
    for (const path of left) await removeTree(path, { below: this.#dir });
    return [...left, ...(await sweepTemporaries(this.#dir))];
  }

  dirOf(snapshotId: string): string {
    return join(this.#dir, snapshotId);
  }

  async #ids(): Promise<readonly string[]> {
    const names = await readdir(this.#dir).catch(() => []);
    return names.filter((name) => isId(name)).sort();
  }
}

/** One that cannot be looked at has to be believed to be there. */
async function hasManifest(dir: string): Promise<boolean> {
  return await stat(join(dir, MANIFEST_FILE)).then(
    () => true,
    (error: unknown) => !isErrno(error, 'ENOENT'),
  );
}

/** Undefined for a snapshot of the disk only. */
export function frozenSnapshot({ dir, manifest }: VmSnapshot): FrozenMachine | undefined {
  const { shape, initramfsSha256, state, rootDiskBytes } = manifest;
  return state === null ? undefined : { dir, shape, initramfsSha256, state, rootDiskBytes };
}

function isVmName(text: string): boolean {
  try {
    assertVmName(text);
    return true;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}
