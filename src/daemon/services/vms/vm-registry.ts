/** Which VMs there are: the rows of the store joined with the machines that run now. */

import type { VmView } from '../../../api/results/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import { assertLegal, type VmAction } from '../../../core/lifecycle.ts';
import { hostAddressOf, hostPrefixOf } from '../../../core/host-address.ts';
import type { VmRecord, VmRuntime, VmState } from '../../../core/model/vm.ts';
import { resolveReference } from '../../../core/references.ts';
import { now } from '../../../host/clock.ts';
import { removeTree } from '../../../host/files.ts';
import { type BangerPaths, tagOf } from '../../../host/paths.ts';
import { processUsage } from '../../../host/proc.ts';
import { readImageManifest } from '../../../images/manifests.ts';
import type { Store } from '../../../store/store.ts';
import { diskUsage, type VmFiles, vmFiles } from '../../vm-files.ts';
import { readVmRecord, recordOf, saysTheSame, writeVmRecord } from '../../vm-record-file.ts';
import type { LiveVm } from './live-vm.ts';

/** A change of the runtime facts: undefined removes one. */
export type RuntimeChange = { readonly [K in keyof VmRuntime]?: VmRuntime[K] | undefined };

export class VmRegistry {
  readonly #store: Store;
  readonly #paths: BangerPaths;
  readonly #live = new Map<string, LiveVm>();
  /** What the addresses of its VMs on this host begin with: `127.107.251`. */
  readonly hostPrefix: string;

  constructor(deps: { readonly store: Store; readonly paths: BangerPaths }) {
    this.#store = deps.store;
    this.#paths = deps.paths;
    this.hostPrefix = hostPrefixOf(Number.parseInt(tagOf(deps.paths.stateDir), 16));
  }

  get runningCount(): number {
    return this.#live.size;
  }

  rows(): readonly VmRecord[] {
    return this.#store.listVms();
  }

  /** @throws {BangerError} `not_found`, `bad_request` (ambiguous) */
  resolve(ref: string): VmRecord {
    return resolveReference(ref, this.rows());
  }

  find(id: string): VmRecord | undefined {
    return this.#store.getVmById(id);
  }

  /** @throws {BangerError} `not_found`: it was deleted meanwhile */
  row(id: string): VmRecord {
    const vm = this.find(id);
    if (vm === undefined) throw new BangerError('not_found', `VM ${id.slice(0, 12)} is gone`);
    return vm;
  }

  files(id: string): VmFiles {
    return vmFiles(this.#paths, id);
  }

  /** The VM's own directory, and nothing a link in it leads to. */
  async removeFiles(id: string): Promise<void> {
    await removeTree(this.files(id).dir, { below: this.#paths.vmsDir });
  }

  view(vm: VmRecord): VmView {
    return {
      ...vm,
      hostAddress: this.hostAddressOf(vm),
      pid: this.live(vm.id)?.machine.handles.pid ?? null,
      vmDir: this.files(vm.id).dir,
    };
  }

  list(): readonly VmView[] {
    return this.rows().map((vm) => this.view(vm));
  }

  /** A VM's own address on this host; null: it has none (its row is damaged). */
  hostAddressOf({ guestIp }: VmRecord): string | null {
    return hostAddressOf(this.hostPrefix, guestIp);
  }

  live(id: string): LiveVm | undefined {
    return this.#live.get(id);
  }

  allLive(): readonly LiveVm[] {
    return [...this.#live.values()];
  }

  setLive(live: LiveVm): void {
    this.#live.set(live.id, live);
  }

  /** Only if it is still this one: a restart may have put another in its place. */
  dropLive(live: LiveVm): void {
    if (this.#live.get(live.id) === live) this.#live.delete(live.id);
  }

  /** The running VM a reference means, marked as touched. @throws {BangerError} `not_found`, `invalid_state` */
  running(ref: string, action: VmAction): { readonly vm: VmRecord; readonly live: LiveVm } {
    const vm = this.resolve(ref);
    const live = this.liveOf(vm, action);
    this.touch(vm.id);
    return { vm, live };
  }

  /** As `running`, without counting as use of it. */
  liveOf(vm: VmRecord, action: VmAction): LiveVm {
    assertLegal(action, vm.state, vm.name);
    const live = this.live(vm.id);
    if (live !== undefined) return live;
    throw new BangerError('invalid_state', `VM "${vm.name}" has just ended`, {
      hint: `banger vm show ${vm.name}`,
    });
  }

  /** Somebody uses it: `auto_stop_stale_after` counts from here. */
  touch(id: string): void {
    this.#store.touchVm(id, now());
  }

  /** The row with a state and a change of the runtime facts, not written yet. */
  changed(id: string, state: VmState, change: RuntimeChange = {}): VmRecord {
    const vm = this.row(id);
    const runtime = Object.fromEntries(
      Object.entries({ ...vm.runtime, ...change }).filter(([, value]) => value !== undefined),
    );
    return { ...vm, state, runtime, updatedAt: now() };
  }

  /** Writes a state and a change of the runtime facts, of which vm.json knows nothing, and gives the row back. */
  update(id: string, state: VmState, change: RuntimeChange = {}): VmRecord {
    const updated = this.changed(id, state, change);
    this.#store.upsertVm(updated);
    return updated;
  }

  /**
   * Writes a row whose durable part may have changed, then its vm.json (why in this order: vm-record-file.ts). When
   * the file cannot be written, the row is put back. Expects the VM's lock to be held.
   * @throws {BangerError} `no_space`, `permission`, `io_error`
   */
  async save(vm: VmRecord): Promise<VmRecord> {
    const before = this.row(vm.id);
    this.#store.upsertVm(vm);
    try {
      await this.keepRecord(vm.id);
    } catch (error) {
      this.#store.upsertVm(before);
      throw error;
    }
    return this.row(vm.id);
  }

  /** As `save`, with what the row says of the workspace: the VM's disks are another moment's. What fails is to be done again. */
  async saveExchanged(vm: VmRecord): Promise<VmRecord> {
    this.#store.setVmWorkspace(vm.id, vm.workspace, vm.updatedAt);
    return await this.save(vm);
  }

  /** Brings the VM's vm.json up to its row. None for a VM that is ephemeral, being created or being deleted. */
  async keepRecord(id: string): Promise<void> {
    const vm = this.find(id);
    if (vm === undefined || vm.runtime.pending !== undefined) return;
    const { dir } = this.files(id);
    const kept = await readVmRecord(dir, id).catch(() => undefined);
    // The image under a VM's disk is never replaced: what was written down once stays true.
    const record = recordOf(vm, kept?.image.sha256 ?? (await this.#imageDigest(vm)));
    if (record === undefined || (kept !== undefined && saysTheSame(kept, record))) return;
    await writeVmRecord(dir, record);
  }

  /** Null where it cannot be known. */
  async #imageDigest(vm: VmRecord): Promise<string | null> {
    try {
      const image = this.#store.getImageById(vm.imageId);
      const manifest = image && (await readImageManifest(image.artifactDir));
      return manifest?.rootfs.sha256 ?? null;
    } catch (error) {
      if (error instanceof BangerError) return null;
      throw error;
    }
  }

  /** Measures a VM and remembers it. One that was deleted meanwhile is no error. */
  async sample(id: string): Promise<void> {
    const live = this.live(id);
    const usage = live === undefined ? undefined : processUsage(live.machine.handles.pid);
    const diskBytes = await diskUsage(this.files(id));
    this.#store.setVmStats(id, { ...usage, diskBytes, sampledAt: now() });
  }
}
