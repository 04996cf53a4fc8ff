/** Snapshots of VMs: taking them, saying what they need, and putting a VM back to one. */

import { rename, rm, stat } from 'node:fs/promises';
import type {
  CheckedParamsOf,
  VmSnapshotDetail,
  VmSnapshotList,
  VmSnapshotTaken,
  VmSnapshotView,
  VmView,
} from '../../api/contract.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import { assertLegal } from '../../core/lifecycle.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import { shortId } from '../../core/names.ts';
import { frozenPaths } from '../../frozen/manifest.ts';
import {
  assertSnapshotName,
  frozenSnapshot,
  type VmSnapshot,
  type VmSnapshotManifest,
  type VmSnapshotStore,
} from '../../frozen/vm-snapshot-store.ts';
import { now } from '../../host/clock.ts';
import type { Draft } from '../../host/drafts.ts';
import { newId } from '../../host/ids.ts';
import type { Log } from '../../host/log.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { sparseDigest } from '../../host/sparse-digest.ts';
import { assertReadable } from '../../store/vm-row.ts';
import type { OperationHandle } from '../operations.ts';
import type { ImageService, LocalImage } from './image-service.ts';
import { readMachineFacts, type StartedAs } from './machine-facts.ts';
import type { FrozenFile, FileVerifier } from './file-verifier.ts';
import { captureDisks, type Captured, captureLive, placeDisks } from './vm-capture.ts';
import type { VmLifecycle } from './vm-lifecycle.ts';
import type { VmRegistry } from './vm-registry.ts';
import type { WorkspaceService } from './workspace-service.ts';

export interface VmSnapshotsDeps {
  readonly store: VmSnapshotStore;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly images: ImageService;
  readonly workspaces: WorkspaceService;
  readonly verifier: FileVerifier;
  readonly runner: CommandRunner;
  readonly log: Log;
}

export class VmSnapshots {
  readonly #deps: VmSnapshotsDeps;

  constructor(deps: VmSnapshotsDeps) {
    this.#deps = deps;
  }

  /** Before serving: removes what an earlier daemon left half made. */
  async settle(): Promise<void> {
    const swept = await this.#deps.store.sweep();
    if (swept.length > 0) this.#deps.log.warn({ swept }, 'swept snapshots that were not finished');
  }

  /** @throws {BangerError} `invalid_state`, `already_exists`, `unsupported`, `no_space`, `vmm_failed`, `cancelled` … */
  async create(
    params: CheckedParamsOf<'snapshot.create'>,
    operation: OperationHandle,
  ): Promise<VmSnapshotTaken> {
    const { registry, lifecycle, store } = this.#deps;
    const { id, name: vmName } = registry.resolve(params.ref);
    operation.about(vmName);
    const name = await this.#nameFor(params.name, vmName);
    const snapshotId = newId();
    await using draft = await store.draft(snapshotId);
    const taken = await lifecycle.locked(id, operation.signal, async () => {
      const vm = registry.row(id);
      assertLegal('snapshot', vm.state, vm.name);
      assertReadable(vm);
      operation.progress({ step: 'save', text: `copying ${vm.name}` });
      return { vm, ...(await this.#capture(vm, draft, params.diskOnly, operation)) };
    });
    operation.progress({ step: 'digest', text: 'reading what was written' });
    await this.#describe(draft, { id: snapshotId, name }, taken, operation.signal);
    // Another may have taken the name meanwhile.
    await this.#nameFor(name, vmName);
    if (operation.signal.aborted) throw new BangerError('cancelled', 'cancelled');
    await draft.publish();
    const snapshot = await this.#get(snapshotId);
    return { snapshot: await this.#view(snapshot), pauseMs: taken.captured.pauseMs };
  }

  /** Of one VM, or all of them; oldest first. */
  async list(ref: string | undefined): Promise<VmSnapshotList> {
    const { store, registry } = this.#deps;
    const { whole, broken } = await store.list();
    const vmId = ref === undefined ? undefined : this.#vmIdOf(ref, whole, registry);
    const wanted = vmId === undefined ? whole : whole.filter(({ manifest }) => manifest.vm.id === vmId);
    const snapshots = await Promise.all(wanted.map((snapshot) => this.#view(snapshot)));
    return { snapshots, broken: vmId === undefined ? broken : [] };
  }

  async show(ref: string): Promise<VmSnapshotDetail> {
    const snapshot = await this.#get(ref);
    const problem = await this.#image(snapshot).then(
      () => null,
      (error: unknown) => errorText(error),
    );
    const needs = snapshot.manifest.state === null ? {} : snapshot.manifest.shape;
    return { ...(await this.#view(snapshot)), needs, problem };
  }

  async delete(ref: string): Promise<VmSnapshotView> {
    const { store, verifier } = this.#deps;
    const broken = (await store.list()).broken.find(({ id }) => id === ref);
    if (broken !== undefined) {
      await store.remove(broken.id);
      throw new BangerError(
        'io_error',
        `the snapshot ${broken.id} was damaged (${broken.problem}); it is removed`,
      );
    }
    const snapshot = await this.#get(ref);
    const view = await this.#view(snapshot);
    await store.remove(snapshot.manifest.id);
    const paths = frozenPaths(snapshot.dir);
    for (const path of [paths.memory, paths.rootDisk]) verifier.forget({ path });
    return view;
  }

  /**
   * Puts a VM back to the moment of its snapshot, running if that was taken of a running VM. What the VM has now is lost,
   * but only once the snapshot is known to be whole and usable here.
   * @throws {BangerError} `invalid_state` (it runs, without force), `not_found` (the VM is gone), `verify_failed`, `unsupported`
   */
  async restore(params: CheckedParamsOf<'snapshot.restore'>, operation: OperationHandle): Promise<VmView> {
    const { registry, lifecycle } = this.#deps;
    const { snapshot, image } = await this.#usable(params.snapshot, operation.signal);
    const { manifest } = snapshot;
    const target = registry.find(manifest.vm.id);
    if (target === undefined) {
      throw new BangerError('not_found', `the VM "${manifest.vm.name}" of that snapshot is gone`, {
        hint: `banger vm fork --snapshot ${manifest.name} makes a new one of it`,
      });
    }
    operation.about(target.name);
    return await lifecycle.locked(target.id, operation.signal, async () => {
      const vm = registry.row(target.id);
      assertLegal('restore', vm.state, vm.name);
      if ((vm.state === 'running' || vm.state === 'paused') && !params.force) {
        throw new BangerError(
          'invalid_state',
          `VM "${vm.name}" is ${vm.state}: what it does now would be lost`,
          {
            hint: `banger vm stop ${vm.name}, or --force`,
          },
        );
      }
      const ended = await lifecycle.end(vm, 'at once', operation);
      await this.#replaceDisks(snapshot, vm);
      const { spec, workspace } = manifest.vm;
      const back = await registry.save({
        ...ended,
        spec: { ...spec, ephemeral: vm.spec.ephemeral },
        workspace,
        updatedAt: now(),
      });
      const frozen = frozenSnapshot(snapshot);
      if (frozen === undefined) return registry.view(back);
      return registry.view(await lifecycle.startFrozen(back, image, { frozen, identity: 'new' }, operation));
    });
  }

  /** What forks of a snapshot are made of, known to be whole and usable here. */
  async seed(ref: string, signal: AbortSignal) {
    const { snapshot } = await this.#usable(ref, signal);
    const { name, spec, workspace } = snapshot.manifest.vm;
    return { dir: snapshot.dir, frozen: frozenSnapshot(snapshot), source: { name, spec, workspace } };
  }

  async #capture(
    vm: VmRecord,
    draft: Draft,
    diskOnly: boolean,
    operation: OperationHandle,
  ): Promise<{ readonly captured: Captured; readonly startedAs: StartedAs }> {
    const { registry, log } = this.#deps;
    const files = registry.files(vm.id);
    const options = { files, into: draft.dir, signal: operation.signal, log };
    const live = registry.live(vm.id);
    const startedAs = await readMachineFacts(files, vm.name);
    const captured =
      live === undefined ? await captureDisks(options) : await captureLive(live, !diskOnly, options);
    return { captured, startedAs };
  }

  async #describe(
    draft: Draft,
    named: { readonly id: string; readonly name: string },
    taken: { readonly vm: VmRecord; readonly captured: Captured; readonly startedAs: StartedAs },
    signal: AbortSignal,
  ): Promise<VmSnapshotManifest> {
    const { store, runner } = this.#deps;
    const { vm, captured, startedAs } = taken;
    const { state } = captured;
    const paths = frozenPaths(draft.dir);
    const rootSha256 = await sparseDigest(paths.rootDisk, runner, signal);
    const memory =
      state === null
        ? null
        : {
            sizeBytes: vm.spec.memoryMib * 1024 ** 2,
            sparseSha256: await sparseDigest(paths.memory, runner, signal),
          };
    return await store.writeManifest(draft, {
      ...named,
      createdAt: now(),
      shape: startedAs.shape,
      kernel: { name: startedAs.kernelName, sha256: startedAs.digests.kernel },
      initramfsSha256: startedAs.digests.initramfs,
      image: { name: vm.spec.imageName, rootfsSha256: startedAs.rootfsSha256 },
      vcpus: vm.spec.vcpus,
      memoryMib: vm.spec.memoryMib,
      accelerator: startedAs.accelerator,
      machine: startedAs.machine,
      rootDiskBytes: vm.spec.diskSizeBytes,
      vm: { id: vm.id, name: vm.name, spec: vm.spec, workspace: vm.workspace },
      memory,
      state: state === null ? null : { sizeBytes: state.sizeBytes, sha256: state.sha256 },
      rootDisk: { sizeBytes: (await stat(paths.rootDisk)).size, sparseSha256: rootSha256 },
    });
  }

  /** New files beside the old ones, and then in their place: a crash in between leaves the one or the other. */
  async #replaceDisks(snapshot: VmSnapshot, vm: VmRecord): Promise<void> {
    const files = this.#deps.registry.files(vm.id);
    const beside = { ...files, rootDisk: `${files.rootDisk}.new`, transferDisk: `${files.transferDisk}.new` };
    for (const path of [beside.rootDisk, beside.transferDisk]) await rm(path, { force: true });
    await placeDisks(snapshot.dir, beside);
    await rename(beside.transferDisk, files.transferDisk);
    await rename(beside.rootDisk, files.rootDisk);
  }

  async #usable(ref: string, signal: AbortSignal): Promise<{ snapshot: VmSnapshot; image: LocalImage }> {
    const { verifier } = this.#deps;
    const snapshot = await this.#get(ref);
    const image = await this.#image(snapshot);
    const { manifest, dir } = snapshot;
    const paths = frozenPaths(dir);
    await verifier.verify({ path: paths.rootDisk, ...manifest.rootDisk }, signal);
    if (manifest.memory !== null)
      await verifier.verify({ path: paths.memory, ...manifest.memory } satisfies FrozenFile, signal);
    return { snapshot, image };
  }

  /** Its disk stands on the root file system of that image, whatever the name stands for now. */
  async #image({ manifest }: VmSnapshot): Promise<LocalImage> {
    const { name, rootfsSha256 } = manifest.image;
    const image = await this.#deps.images.find(name);
    const why =
      image === undefined
        ? 'is not here any more'
        : image.manifest.rootfs.sha256 === rootfsSha256
          ? undefined
          : `is another one: its digest is ${shortId(image.manifest.rootfs.sha256)}, and was ${shortId(rootfsSha256)}`;
    if (image !== undefined && why === undefined) return image;
    throw new BangerError(
      'unsupported',
      `the snapshot "${manifest.name}" needs the image "${name}", which ${why}`,
      {
        hint: 'banger image list shows those that are here',
      },
    );
  }

  async #get(ref: string): Promise<VmSnapshot> {
    const { whole, broken } = await this.#deps.store.list();
    const damaged = broken.find(({ id }) => id === ref || id.startsWith(ref));
    const named = whole.map((snapshot) => ({
      snapshot,
      id: snapshot.manifest.id,
      name: snapshot.manifest.name,
    }));
    const exact = named.find((one) => one.id === ref) ?? named.find((one) => one.name === ref);
    const candidates = named.filter((one) => one.id.startsWith(ref) || one.name.startsWith(ref));
    const [only] = candidates;
    if (exact !== undefined) return exact.snapshot;
    if (only !== undefined && candidates.length === 1) return only.snapshot;
    if (only !== undefined) {
      throw new BangerError(
        'bad_request',
        `"${ref}" could be ${candidates.map(({ name }) => name).join(' or ')}`,
      );
    }
    if (damaged !== undefined) {
      throw new BangerError('io_error', `the snapshot ${damaged.id} is damaged: ${damaged.problem}`, {
        hint: `banger vm snapshot delete ${damaged.id}`,
      });
    }
    throw new BangerError('not_found', `no snapshot "${ref}"`, { hint: 'banger vm snapshot list shows all' });
  }

  async #nameFor(name: string | undefined, vmName: string): Promise<string> {
    const taken = new Set((await this.#deps.store.list()).whole.map(({ manifest }) => manifest.name));
    if (name !== undefined) {
      assertSnapshotName(name);
      if (!taken.has(name)) return name;
      throw new BangerError('already_exists', `there is a snapshot "${name}"`, {
        hint: `banger vm snapshot delete ${name} frees the name`,
      });
    }
    for (let number = 1; ; number++) {
      const made = `${vmName.slice(0, 56)}-${number}`;
      if (!taken.has(made)) return made;
    }
  }

  #vmIdOf(ref: string, whole: readonly VmSnapshot[], registry: VmRegistry): string {
    // A VM that is gone may have left snapshots.
    const gone = whole.find(
      ({ manifest: { vm } }) => (vm.id === ref || vm.name === ref) && registry.find(vm.id) === undefined,
    );
    return gone?.manifest.vm.id ?? registry.resolve(ref).id;
  }

  async #view(snapshot: VmSnapshot): Promise<VmSnapshotView> {
    const { store, registry } = this.#deps;
    const { id, name, vm, createdAt, image, vcpus, memoryMib, rootDiskBytes, state } = snapshot.manifest;
    return {
      id,
      name,
      vm: { id: vm.id, name: vm.name, exists: registry.find(vm.id) !== undefined },
      createdAt,
      imageName: image.name,
      vcpus,
      memoryMib,
      diskSizeBytes: rootDiskBytes,
      withMemory: state !== null,
      allocatedBytes: await store.sizeBytes(snapshot),
      dir: snapshot.dir,
    };
  }
}
