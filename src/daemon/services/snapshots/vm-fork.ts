/** Copies of a VM with its processes, disk and memory; the source goes on. */

import { mkdir } from 'node:fs/promises';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { VmForked } from '../../../api/results/vm.ts';
import { BangerError, errorText } from '../../../core/errors.ts';
import type { VmRecord, VmSpec } from '../../../core/model/vm.ts';
import type { FrozenMachine } from '../../../frozen/manifest.ts';
import type { VmSnapshot } from '../../../frozen/vm-snapshot-store.ts';
import { createTempDir } from '../../../host/drafts.ts';
import { fileError } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { assertReadable } from '../../../store/vm-row.ts';
import type { OperationHandle } from '../../operations.ts';
import { withUndo } from '../../undo.ts';
import type { LocalImage } from '../images/image-service.ts';
import { readMachineFacts } from '../vms/machine-facts.ts';
import type { SnapshotNeeds } from './snapshot-needs.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import { copyShippedFiles } from '../../shipped-files.ts';
import { captureLive, placeDisks } from './vm-capture.ts';
import type { Transfers } from '../guests/transfers.ts';
import type { VmLifecycle } from '../vms/vm-lifecycle.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';
import type { VmReservations } from '../vms/vm-reservations.ts';
import { withoutSource } from '../workspaces/workspace-source.ts';
import type { WorkspaceService } from '../workspaces/workspace-service.ts';

const NEVER = new AbortController().signal;
/** Each start is bound by CPU time; more at once make every one of them slower, up to its time limit. */
const STARTS_AT_ONCE = 8;

export interface VmForkDeps {
  readonly paths: BangerPaths;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly sleep: Pick<VmSleep, 'rouse'>;
  readonly transfers: Pick<Transfers, 'finish'>;
  readonly reservations: VmReservations;
  readonly shelf: SnapshotShelf;
  readonly needs: SnapshotNeeds;
  readonly workspaces: WorkspaceService;
  readonly log: Log;
}

/** What forks are made of. */
interface Seed {
  readonly dir: string;
  /** Undefined: the disk only; the copies boot. */
  readonly frozen: FrozenMachine | undefined;
  readonly image: LocalImage;
  readonly source: Pick<VmRecord, 'name' | 'spec' | 'workspace'>;
  readonly pauseMs: number;
}

export class VmFork {
  readonly #deps: VmForkDeps;

  constructor(deps: VmForkDeps) {
    this.#deps = deps;
  }

  /**
   * All of the copies or none. Programs that ran in the foreground of somebody's session see it end in the copies.
   * @throws {BangerError} `invalid_state` (it does not run), `already_exists`, `unsupported`, `no_space`, and what a start throws
   */
  async fork(params: CheckedParamsOf<'vm.fork'>, operation: OperationHandle): Promise<VmForked> {
    const began = performance.now();
    const { paths, shelf } = this.#deps;
    const { ref, snapshot } = params;
    if ((ref === undefined) === (snapshot === undefined)) {
      throw new BangerError('bad_request', 'a fork is made of a VM or of a snapshot: one of them', {
        hint: 'banger vm fork NAME, or banger vm fork --snapshot SNAPSHOT',
      });
    }
    if (snapshot !== undefined) {
      return await shelf.use(snapshot, async (kept) => {
        const seed = await this.#seedOf(kept, params.diskOnly, operation);
        return await this.#grow(seed, params, operation, began);
      });
    }
    if (params.diskOnly) {
      throw new BangerError('bad_request', 'only a snapshot can be forked without its memory', {
        hint: `banger vm snapshot create ${ref} --disk-only, then banger vm fork --snapshot SNAPSHOT`,
      });
    }
    await using temp = await createTempDir(paths.scratchDir, 'fork');
    const seed = await this.#capture(ref ?? '', temp.dir, operation);
    return await this.#grow(seed, params, operation, began);
  }

  async #seedOf(snapshot: VmSnapshot, diskOnly: boolean, operation: OperationHandle): Promise<Seed> {
    const { imported, vm } = snapshot.manifest;
    const { name, spec } = vm;
    const workspace = imported && vm.workspace ? withoutSource(vm.workspace) : vm.workspace;
    operation.about(name);
    const usable = await this.#deps.needs.assertUsable(snapshot, diskOnly, operation);
    return { ...usable, dir: snapshot.dir, source: { name, spec, workspace }, pauseMs: 0 };
  }

  async #capture(ref: string, into: string, operation: OperationHandle): Promise<Seed> {
    const { registry, lifecycle, sleep, transfers, needs, log } = this.#deps;
    const id = await sleep.rouse(ref, 'fork', operation.signal);
    await transfers.finish(id);
    const { name } = registry.row(id);
    operation.about(name);
    return await lifecycle.locked(id, operation.signal, async () => {
      const { live } = registry.running(id, 'fork');
      const vm = registry.row(id);
      assertReadable(vm);
      const files = registry.files(id);
      const { shape, digests, rootfsSha256 } = await readMachineFacts(files, vm.name);
      const image = await needs.image(vm.spec.imageName, rootfsSha256, `VM "${vm.name}"`);
      operation.progress({ step: 'save', text: `copying ${vm.name}` });
      const { signal } = operation;
      const options = {
        vmName: vm.name,
        files,
        workspace: () => registry.row(id).workspace,
        into,
        signal,
        log,
      };
      const { state, pauseMs, workspace } = await captureLive(live, true, options);
      if (state === null) throw new Error('a capture with memory has a state');
      const { sizeBytes, sha256 } = state;
      const frozen: FrozenMachine = {
        dir: into,
        shape,
        initramfsSha256: digests.initramfs,
        state: { sizeBytes, sha256 },
        rootDiskBytes: vm.spec.diskSizeBytes,
      };
      return { dir: into, frozen, image, source: { ...vm, workspace }, pauseMs };
    });
  }

  async #grow(
    seed: Seed,
    params: CheckedParamsOf<'vm.fork'>,
    operation: OperationHandle,
    began: number,
  ): Promise<VmForked> {
    if (operation.signal.aborted) throw new BangerError('cancelled', 'cancelled');
    const reserved = await this.#reserve(seed, params);
    const names = reserved.map(({ name }) => name);
    const total = reserved.length;
    const unit = 'items';
    operation.progress({ step: 'fork', text: `starting ${names.join(', ')}`, done: 0, total, unit });
    const abort = new AbortController();
    const signal = AbortSignal.any([operation.signal, abort.signal]);
    let done = 0;
    const started = await atMost(STARTS_AT_ONCE, reserved, async (vm) => {
      try {
        await this.#start(vm, seed, { ...operation, signal, progress: () => undefined });
      } catch (error) {
        abort.abort();
        throw error;
      }
      done += 1;
      operation.progress({ step: 'fork', text: `started ${vm.name}`, done, total, unit });
    });
    await this.#allOrNone(reserved, started);
    await this.#keep(reserved);
    const { registry } = this.#deps;
    // One may have been deleted as soon as it was there.
    const rows = reserved.flatMap(({ id }) => registry.find(id) ?? []);
    const vms = rows.map((row) => registry.view(row));
    return { vms, pauseMs: seed.pauseMs, elapsedMs: performance.now() - began };
  }

  /** All names at once, so that another fork gets others. A row without a process is undone by deleting it. */
  async #reserve(
    seed: Seed,
    { name, count, ephemeral }: CheckedParamsOf<'vm.fork'>,
  ): Promise<readonly VmRecord[]> {
    const { reservations, lifecycle } = this.#deps;
    const { source, image } = seed;
    // The source has its ports of the host.
    const spec: VmSpec = { ...source.spec, publish: [], ephemeral };
    const rows: VmRecord[] = [];
    try {
      const one = name !== undefined && count === 1;
      if (one) reservations.assertFree(name);
      const names = one ? [name] : reservations.numbered(name ?? shortened(source.name), count);
      for (const each of names) rows.push(reservations.reserve(each, spec, image, source.workspace));
      return rows;
    } catch (error) {
      for (const row of rows) await lifecycle.remove(row);
      throw error;
    }
  }

  async #start(vm: VmRecord, seed: Seed, operation: OperationHandle): Promise<void> {
    const { registry, lifecycle, workspaces } = this.#deps;
    const { dir, frozen, image } = seed;
    await lifecycle.locked(vm.id, NEVER, () =>
      withUndo(async (undo) => {
        await undo.step(
          'vm',
          async () => {
            // Somebody may have deleted it before its turn came.
            registry.row(vm.id);
            const files = registry.files(vm.id);
            if (operation.signal.aborted) throw new BangerError('cancelled', 'cancelled');
            await makeDir(files.dir);
            await placeDisks({ dir, workspace: vm.workspace }, files, operation.signal);
            await copyShippedFiles(dir, files.dir);
            // The memory has it mounted.
            const errand =
              frozen === undefined && vm.workspace ? workspaces.remount(vm.workspace) : undefined;
            const from = frozen === undefined ? 'best' : ({ frozen, identity: 'new' } as const);
            await lifecycle.start(vm, image, errand, operation, from);
            // Still to be undone by the next daemon: only all of them together are there to stay.
            registry.update(vm.id, 'running');
          },
          async () => {
            const row = registry.find(vm.id);
            if (row !== undefined) await lifecycle.remove(row);
          },
        );
      }),
    );
  }

  /** From the first of these rows on a daemon that dies leaves them where they are. */
  async #keep(started: readonly VmRecord[]): Promise<void> {
    const { registry } = this.#deps;
    for (const { id } of started) {
      const row = registry.find(id);
      if (row !== undefined) registry.update(id, row.state, { pending: undefined });
    }
    const kept = await Promise.allSettled(started.map(({ id }) => registry.keepRecord(id)));
    await this.#allOrNone(started, kept);
  }

  /** The first failure that was not only the others' end is the reason; those that had started go. */
  async #allOrNone(
    reserved: readonly VmRecord[],
    started: readonly PromiseSettledResult<void>[],
  ): Promise<void> {
    const { registry, lifecycle, log } = this.#deps;
    const reasons = started.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    if (reasons.length === 0) return;
    for (const { id, name } of reserved) {
      await lifecycle
        .locked(id, NEVER, async () => {
          const vm = registry.find(id);
          if (vm !== undefined) await lifecycle.remove(vm);
        })
        .catch((error: unknown) =>
          log.error({ vm: name, reason: errorText(error) }, 'could not remove a fork'),
        );
    }
    throw reasons.find((reason) => !isCancellation(reason)) ?? reasons[0];
  }
}

async function makeDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw fileError(`cannot make ${path}`, error);
  });
}

function isCancellation(error: unknown): boolean {
  return error instanceof BangerError && error.code === 'cancelled';
}

/** With room for a hyphen and a number in a name of at most 63 characters. */
function shortened(name: string): string {
  return name.slice(0, 56);
}

/** Like `Promise.allSettled`, with so many under way at a time: each has a time limit that begins with its turn. */
async function atMost<A, B>(
  limit: number,
  items: readonly A[],
  work: (item: A) => Promise<B>,
): Promise<readonly PromiseSettledResult<B>[]> {
  const outcomes: PromiseSettledResult<B>[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      const [outcome] = await Promise.allSettled([work(items[index] as A)]);
      outcomes[index] = outcome;
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return outcomes;
}
