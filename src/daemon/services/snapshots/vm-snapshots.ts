/** Snapshots of VMs: taking them, and saying what they are and need. */

import { stat } from 'node:fs/promises';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type {
  VmSnapshotDeleted,
  VmSnapshotDetail,
  VmSnapshotList,
  VmSnapshotTaken,
  VmSnapshotView,
} from '../../../api/results/snapshot.ts';
import { BangerError } from '../../../core/errors.ts';
import { assertLegal } from '../../../core/lifecycle.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { frozenPaths } from '../../../frozen/manifest.ts';
import type { VmSnapshot, VmSnapshotManifest, VmSnapshotStore } from '../../../frozen/vm-snapshot-store.ts';
import { now } from '../../../host/clock.ts';
import type { Draft } from '../../../host/drafts.ts';
import { newId } from '../../../host/ids.ts';
import type { Log } from '../../../host/log.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { sparseDigest } from '../../../host/sparse-digest.ts';
import { assertReadable } from '../../../store/vm-row.ts';
import type { OperationHandle } from '../../operations.ts';
import { readMachineFacts, type StartedAs } from '../vms/machine-facts.ts';
import type { FileVerifier } from '../images/file-verifier.ts';
import type { SnapshotNeeds } from './snapshot-needs.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import { captureDisks, type Captured, captureLive } from './vm-capture.ts';
import type { Transfers } from '../guests/transfers.ts';
import type { VmLifecycle } from '../vms/vm-lifecycle.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';

export interface VmSnapshotsDeps {
  readonly store: VmSnapshotStore;
  readonly shelf: SnapshotShelf;
  readonly needs: SnapshotNeeds;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly sleep: Pick<VmSleep, 'rouse'>;
  readonly transfers: Pick<Transfers, 'finish'>;
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
    const { registry, lifecycle, sleep, transfers, store, shelf } = this.#deps;
    const id = await sleep.rouse(params.ref, 'snapshot', operation.signal);
    await transfers.finish(id);
    const { name: vmName } = registry.row(id);
    operation.about(vmName);
    using reserved = await shelf.reserveName(params.name, vmName);
    const { name } = reserved;
    const snapshotId = newId();
    await using draft = await store.draft(snapshotId);
    const taken = await lifecycle.locked(id, operation.signal, async () => {
      await lifecycle.finishExchange(id);
      const vm = registry.row(id);
      assertLegal('snapshot', vm.state, vm.name);
      assertReadable(vm);
      operation.progress({ step: 'save', text: `copying ${vm.name}` });
      return { vm, ...(await this.#capture(vm, draft, params.diskOnly, operation)) };
    });
    operation.progress({ step: 'digest', text: 'reading what was written' });
    const manifest = await this.#describe(draft, { id: snapshotId, name }, taken, operation.signal);
    const snapshot = await this.publish(draft, manifest, operation);
    await this.#trust(snapshot);
    return { snapshot: await this.view(snapshot), pauseMs: taken.captured.pauseMs };
  }

  /** Of one VM, or all of them; oldest first. */
  async list(ref: string | undefined): Promise<VmSnapshotList> {
    const { store, registry } = this.#deps;
    const { whole, broken } = await store.list();
    const vmId = ref === undefined ? undefined : this.#vmIdOf(ref, whole, registry);
    const wanted = vmId === undefined ? whole : whole.filter(({ manifest }) => manifest.vm.id === vmId);
    const snapshots = await Promise.all(wanted.map((snapshot) => this.view(snapshot)));
    return { snapshots, broken: vmId === undefined ? broken : [] };
  }

  /** Makes a draft with its manifest the snapshot of its name, which is reserved. @throws {BangerError} `cancelled`, `no_space` */
  async publish(draft: Draft, manifest: VmSnapshotManifest, operation: OperationHandle): Promise<VmSnapshot> {
    const { store } = this.#deps;
    if (operation.signal.aborted) throw new BangerError('cancelled', 'cancelled');
    operation.progress({ step: 'publish', text: 'writing it to the disk' });
    try {
      if (!(await draft.publish())) throw new Error(`there is a snapshot ${manifest.id} already`);
    } catch (error) {
      // It has its name already when only making that durable failed.
      await store.remove(manifest.id).catch(() => undefined);
      throw error;
    }
    return { dir: store.dirOf(manifest.id), manifest };
  }

  async show(ref: string): Promise<VmSnapshotDetail> {
    const { shelf, needs } = this.#deps;
    const snapshot = await shelf.get(ref);
    const problem = await needs.problem(snapshot);
    const tied = snapshot.manifest.state === null ? {} : snapshot.manifest.shape;
    return { ...(await this.view(snapshot)), needs: tied, problem };
  }

  /** @throws {BangerError} `not_found`, `in_use` (a VM is being started from it) */
  async delete(ref: string): Promise<VmSnapshotDeleted> {
    const { shelf, verifier } = this.#deps;
    const { id, name, dir } = await shelf.remove(ref);
    for (const path of Object.values(frozenPaths(dir))) verifier.forget({ path });
    return { id, name };
  }

  async #capture(
    vm: VmRecord,
    draft: Draft,
    diskOnly: boolean,
    operation: OperationHandle,
  ): Promise<{ readonly captured: Captured; readonly startedAs: StartedAs }> {
    const { registry, log } = this.#deps;
    const files = registry.files(vm.id);
    const workspace = () => registry.row(vm.id).workspace;
    const options = { vmName: vm.name, files, workspace, into: draft.dir, signal: operation.signal, log };
    const startedAs = await readMachineFacts(files, vm.name);
    if (vm.state !== 'running' && vm.state !== 'paused') {
      return { captured: await captureDisks(options), startedAs };
    }
    const { live } = registry.running(vm.id, 'snapshot');
    return { captured: await captureLive(live, !diskOnly, options), startedAs };
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
    const digested = async (path: string) => {
      const sparseSha256 = await sparseDigest(path, runner, signal);
      return { sizeBytes: (await stat(path)).size, sparseSha256 };
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
      vm: { id: vm.id, name: vm.name, spec: vm.spec, workspace: captured.workspace },
      memory: state === null ? null : await digested(paths.memory),
      state: state === null ? null : { sizeBytes: state.sizeBytes, sha256: state.sha256 },
      rootDisk: await digested(paths.rootDisk),
      transferDisk: await digested(paths.transferDisk),
    });
  }

  /** It was digested a moment ago, as it was written. */
  async #trust({ dir, manifest }: VmSnapshot): Promise<void> {
    const { verifier } = this.#deps;
    const paths = frozenPaths(dir);
    await verifier.trust({ path: paths.rootDisk, ...manifest.rootDisk });
    await verifier.trust({ path: paths.transferDisk, ...manifest.transferDisk });
    if (manifest.memory !== null) await verifier.trust({ path: paths.memory, ...manifest.memory });
  }

  #vmIdOf(ref: string, whole: readonly VmSnapshot[], registry: VmRegistry): string {
    // A VM that is gone may have left snapshots.
    const gone = whole.find(
      ({ manifest: { vm } }) => (vm.id === ref || vm.name === ref) && registry.find(vm.id) === undefined,
    );
    return gone?.manifest.vm.id ?? registry.resolve(ref).id;
  }

  async view(snapshot: VmSnapshot): Promise<VmSnapshotView> {
    const { store, registry } = this.#deps;
    const { id, name, vm, createdAt, image, vcpus, memoryMib, rootDiskBytes, state, imported } =
      snapshot.manifest;
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
      imported,
    };
  }
}
