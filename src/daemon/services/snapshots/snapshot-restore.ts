/** Puts a VM back to a snapshot of it: the VM is as it was before, or as the snapshot has it, whatever happens meanwhile. */

import { mkdir } from 'node:fs/promises';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { VmView } from '../../../api/results/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import { assertLegal } from '../../../core/lifecycle.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { VmSnapshot } from '../../../frozen/vm-snapshot-store.ts';
import { assertReadable } from '../../../store/vm-row.ts';
import { beginExchange } from '../../disk-exchange.ts';
import { copyShippedFiles } from '../../shipped-files.ts';
import type { OperationHandle } from '../../operations.ts';
import type { SnapshotNeeds } from './snapshot-needs.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import { placeDisks } from './vm-capture.ts';
import type { VmLifecycle } from '../vms/vm-lifecycle.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';

/** For work that ends by itself. */
const NEVER = new AbortController().signal;

export interface SnapshotRestoreDeps {
  readonly shelf: SnapshotShelf;
  readonly needs: SnapshotNeeds;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
}

export class SnapshotRestore {
  readonly #deps: SnapshotRestoreDeps;

  constructor(deps: SnapshotRestoreDeps) {
    this.#deps = deps;
  }

  /**
   * The VM runs afterwards if the snapshot has memory, and is stopped otherwise. What it has now is lost, but only once the
   * snapshot is known to be whole and usable here, and its disks are beside the VM's.
   * @throws {BangerError} `invalid_state` (it runs, without force), `not_found` (the VM is gone), `verify_failed`,
   *   `unsupported`, `no_space`, `cancelled`: all these before anything is lost
   */
  async restore(params: CheckedParamsOf<'snapshot.restore'>, operation: OperationHandle): Promise<VmView> {
    const { shelf, registry, lifecycle } = this.#deps;
    return await shelf.use(params.snapshot, async (snapshot) => {
      const { vm: source, name } = snapshot.manifest;
      assertOwn(snapshot);
      const target = registry.find(source.id);
      if (target === undefined) {
        throw new BangerError('not_found', `the VM "${source.name}" of that snapshot is gone`, {
          hint: `banger vm fork --snapshot ${name} makes a new one of it`,
        });
      }
      operation.about(target.name);
      return await lifecycle.locked(target.id, operation.signal, async () => {
        await lifecycle.finishExchange(target.id);
        const vm = registry.row(target.id);
        assertLegal('restore', vm.state, vm.name);
        assertReadable(vm);
        if (!params.force) assertNothingRuns(vm);
        return registry.view(await this.#putBack(vm, snapshot, params.diskOnly, operation));
      });
    });
  }

  async #putBack(
    vm: VmRecord,
    snapshot: VmSnapshot,
    diskOnly: boolean,
    operation: OperationHandle,
  ): Promise<VmRecord> {
    const { needs, registry, lifecycle } = this.#deps;
    const { spec, workspace } = snapshot.manifest.vm;
    const files = registry.files(vm.id);
    const { image, frozen } = await needs.assertUsable(snapshot, diskOnly, operation);
    operation.progress({ step: 'copy_disk', text: `copying the disk of ${vm.name} as it was` });
    await mkdir(files.dir, { recursive: true, mode: 0o700 });
    await using exchange = await beginExchange(files);
    await placeDisks({ dir: snapshot.dir, workspace }, exchange.disks, operation.signal);
    await copyShippedFiles(snapshot.dir, exchange.dir);
    if (operation.signal.aborted) throw new BangerError('cancelled', 'cancelled');
    operation.progress({ step: 'replace', text: `putting ${vm.name} back` });
    const runs = registry.live(vm.id) !== undefined;
    const ended = runs ? await lifecycle.end(vm, 'at once', operation) : vm;
    await exchange.commit({ spec: { ...spec, ephemeral: vm.spec.ephemeral }, workspace });
    const back = (await lifecycle.finishExchange(vm.id)) ?? ended;
    if (frozen === undefined) return back;
    // What was is gone: whoever cancels now gets what was asked for. A deletion and `vm kill` still end it.
    const toItsEnd = { ...operation, signal: NEVER };
    return await lifecycle.startFrozen(back, image, { frozen, identity: 'new' }, toItsEnd);
  }
}

function assertOwn({ manifest: { imported, name } }: VmSnapshot): void {
  if (!imported) return;
  throw new BangerError('unsupported', `the snapshot "${name}" was imported: its VM is not here`, {
    hint: `banger vm fork --snapshot ${name} makes a new one of it`,
  });
}

function assertNothingRuns({ state, name }: VmRecord): void {
  if (state !== 'running' && state !== 'paused') return;
  throw new BangerError('invalid_state', `VM "${name}" is ${state}: what it does now would be lost`, {
    hint: `banger vm stop ${name}, or --force`,
  });
}
