/** Exports and imports of a daemon without the daemon: real files, a real store of snapshots, an image of a few bytes. */

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckedParamsOf, Progress } from '../../src/api/contract.ts';
import type { VmSnapshotExported, VmSnapshotView } from '../../src/api/results/snapshot.ts';
import type { VmPolicy } from '../../src/core/policy/vm-policy.ts';
import { vmPolicy } from '../../src/core/policy/vm-policy.ts';
import type { OperationHandle } from '../../src/daemon/operations.ts';
import type { ImageService } from '../../src/daemon/services/images/image-service.ts';
import { makeSnapshotFiles, type SnapshotFiles } from '../../src/daemon/services/snapshots/snapshot-files.ts';
import type { VmRegistry } from '../../src/daemon/services/vms/vm-registry.ts';
import { SnapshotShelf } from '../../src/daemon/services/snapshots/snapshot-shelf.ts';
import { VmSnapshots, type VmSnapshotsDeps } from '../../src/daemon/services/snapshots/vm-snapshots.ts';
import { frozenPaths } from '../../src/frozen/manifest.ts';
import { type VmSnapshotManifest, VmSnapshotStore } from '../../src/frozen/vm-snapshot-store.ts';
import { newId } from '../../src/host/ids.ts';
import { resolvePaths } from '../../src/host/paths.ts';
import { createRunner } from '../../src/host/runner.ts';
import { sparseDigest } from '../../src/host/sparse-digest.ts';
import { createOverlay } from '../../src/images/disk.ts';
import { TicketBooth } from '../../src/rpc/tickets.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const DIGEST = 'd'.repeat(64);
const NEVER = new AbortController().signal;
const POLICY = vmPolicy({ vmDefaults: {}, accel: 'auto' }, { cpus: 2, memoryMib: 4096 });

export type ManifestChange = (manifest: VmSnapshotManifest) => VmSnapshotManifest;

/** What an image's digest is here, or that there is none. */
interface HomeOptions {
  readonly imageDigest?: string | null;
  readonly policy?: VmPolicy;
}

export class SnapshotHome {
  readonly dir: string;
  readonly store: VmSnapshotStore;
  readonly shelf: SnapshotShelf;
  readonly snapshots: VmSnapshots;
  readonly files: SnapshotFiles;
  readonly progress: Progress[] = [];
  readonly rootfs: string;
  readonly #snapshotsDir: string;

  /** @param dir existing and empty */
  constructor(dir: string, { imageDigest = DIGEST, policy = POLICY }: HomeOptions = {}) {
    this.dir = dir;
    const paths = resolvePaths({ BANGER_HOME: dir }, 0);
    const runner = createRunner();
    this.#snapshotsDir = paths.vmSnapshotsDir;
    this.rootfs = join(dir, 'rootfs.ext4');
    mkdirSync(paths.vmSnapshotsDir, { recursive: true, mode: 0o700 });
    writeFileSync(this.rootfs, 'a root file system');
    truncateSync(this.rootfs, MIB);
    const image = {
      record: { rootfsPath: this.rootfs },
      manifest: { rootfs: { format: 'raw', sha256: imageDigest } },
    };
    const images = {
      find: async () => (imageDigest === null ? undefined : image),
    } as unknown as ImageService;
    const registry = { find: () => undefined } as unknown as VmRegistry;
    this.store = new VmSnapshotStore(paths.vmSnapshotsDir);
    this.shelf = new SnapshotShelf(this.store);
    const deps: Partial<VmSnapshotsDeps> = { store: this.store, shelf: this.shelf, registry, runner };
    this.snapshots = new VmSnapshots(deps as VmSnapshotsDeps);
    this.files = makeSnapshotFiles({
      ...{
        paths,
        tickets: new TicketBooth(),
        snapshots: this.snapshots,
        shelf: this.shelf,
        store: this.store,
        images,
        policy,
        runner,
      },
    });
  }

  operation(signal: AbortSignal = NEVER): OperationHandle {
    return { signal, progress: (one) => this.progress.push(one), about: () => undefined };
  }

  /** A snapshot as one is taken of a VM. `prepare` changes its files before they are described. */
  async add(
    name: string,
    withMemory = false,
    change: ManifestChange = (same) => same,
    prepare: (dir: string) => void = () => undefined,
  ): Promise<string> {
    const runner = createRunner();
    const id = newId();
    await using draft = await this.store.draft(id);
    const paths = frozenPaths(draft.dir);
    await createOverlay({
      basePath: this.rootfs,
      baseFormat: 'raw',
      overlayPath: paths.rootDisk,
      sizeBytes: GIB,
    });
    writeFileSync(paths.transferDisk, 'a squashfs');
    truncateSync(paths.transferDisk, 64 * GIB);
    if (withMemory) {
      writeFileSync(paths.memory, Buffer.alloc(3 * MIB, 7));
      truncateSync(paths.memory, 128 * MIB);
      writeFileSync(paths.state, 'device state');
    }
    prepare(draft.dir);
    const digestOf = async (path: string) => ({
      sizeBytes: (await stat(path)).size,
      sparseSha256: await sparseDigest(path, runner, NEVER),
    });
    const manifest: VmSnapshotManifest = {
      ...{ kind: 'snapshot', manifestVersion: 1, id, name, imported: false },
      ...{
        createdAt: '2026-01-02T03:04:05.000Z',
        shape: { machine: 'q35' },
        machine: 'q35',
        accelerator: 'tcg',
      },
      ...{ kernel: { name: 'cloud', sha256: DIGEST }, initramfsSha256: DIGEST },
      image: { name: 'debian-bookworm', rootfsSha256: DIGEST },
      ...{ vcpus: 1, memoryMib: 128, rootDiskBytes: GIB },
      vm: {
        ...{ id: newId(), name: 'dev', workspace: null },
        spec: {
          ...{ imageName: 'debian-bookworm', vcpus: 1, memoryMib: 128, diskSizeBytes: GIB, nat: true },
          ...{ init: 'agent', accel: 'auto', driver: 'qemu', ephemeral: true, publish: [] },
        },
      },
      memory: withMemory ? await digestOf(paths.memory) : null,
      state: withMemory
        ? { sizeBytes: 12, sha256: createHash('sha256').update('device state').digest('hex') }
        : null,
      rootDisk: await digestOf(paths.rootDisk),
      transferDisk: await digestOf(paths.transferDisk),
    };
    await this.store.writeManifest(draft, change(manifest));
    await draft.publish();
    return id;
  }

  async export(snapshot: string, output: string, force = false): Promise<VmSnapshotExported> {
    return await this.files.exports.export({ snapshot, output, force }, this.operation());
  }

  async import(
    input: string,
    params: Partial<CheckedParamsOf<'snapshot.import'>> = {},
  ): Promise<VmSnapshotView> {
    return await this.files.imports.import({ input, trust: false, nat: false, ...params }, this.operation());
  }

  /** Names of directories, drafts among them. */
  dirs(): readonly string[] {
    return readdirSync(this.#snapshotsDir).toSorted();
  }
}
