/** Copies of a VM with its processes, disk and memory; the source goes on. */

import { mkdir } from 'node:fs/promises';
import type { CheckedParamsOf, VmForked } from '../../api/contract.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import type { VmRecord, VmSpec } from '../../core/model/vm.ts';
import type { FrozenMachine } from '../../frozen/manifest.ts';
import { createTempDir } from '../../host/drafts.ts';
import type { Log } from '../../host/log.ts';
import type { BangerPaths } from '../../host/paths.ts';
import { assertReadable } from '../../store/vm-row.ts';
import type { OperationHandle } from '../operations.ts';
import { withUndo } from '../undo.ts';
import type { ImageService } from './image-service.ts';
import { readMachineFacts } from './machine-facts.ts';
import { type CaptureOptions, captureLive, placeDisks } from './vm-capture.ts';
import type { VmLifecycle } from './vm-lifecycle.ts';
import type { VmRegistry } from './vm-registry.ts';
import type { VmReservations } from './vm-reservations.ts';
import type { VmSnapshots } from './vm-snapshots.ts';
import type { WorkspaceService } from './workspace-service.ts';

const NEVER = new AbortController().signal;

export interface VmForkDeps {
  readonly paths: BangerPaths;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly reservations: VmReservations;
  readonly snapshots: VmSnapshots;
  readonly images: ImageService;
  readonly workspaces: WorkspaceService;
  readonly log: Log;
}

/** What forks are made of. */
interface Seed {
  readonly dir: string;
  /** Undefined: the disk only; the copies boot. */
  readonly frozen: FrozenMachine | undefined;
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
    const { paths, snapshots } = this.#deps;
    const { ref, snapshot } = params;
    if (snapshot !== undefined) {
      const seed = await snapshots.seed(snapshot, operation.signal);
      return await this.#grow({ ...seed, pauseMs: 0 }, params, operation, began);
    }
    if (ref === undefined) {
      throw new BangerError('bad_request', 'a fork needs a VM or a snapshot to be made of', {
        hint: 'banger vm fork NAME, or banger vm fork --snapshot SNAPSHOT',
      });
    }
    await using temp = await createTempDir(paths.scratchDir, 'fork');
    const seed = await this.#capture(ref, temp.dir, operation);
    return await this.#grow(seed, params, operation, began);
  }

  async #capture(ref: string, into: string, operation: OperationHandle): Promise<Seed> {
    const { registry, lifecycle, log } = this.#deps;
    const { id, name } = registry.resolve(ref);
    operation.about(name);
    return await lifecycle.locked(id, operation.signal, async () => {
      const { live } = registry.running(id, 'fork');
      const vm = registry.row(id);
      assertReadable(vm);
      const files = registry.files(id);
      const startedAs = await readMachineFacts(files, vm.name);
      operation.progress({ step: 'save', text: `copying ${vm.name}` });
      const options: CaptureOptions = { files, into, signal: operation.signal, log };
      const { state, pauseMs } = await captureLive(live, true, options);
      if (state === null) throw new Error('a capture with memory has a state');
      const { shape, digests } = startedAs;
      const { sizeBytes, sha256 } = state;
      const frozen: FrozenMachine = {
        dir: into,
        shape,
        initramfsSha256: digests.initramfs,
        state: { sizeBytes, sha256 },
        rootDiskBytes: vm.spec.diskSizeBytes,
      };
      return { dir: into, frozen, source: vm, pauseMs };
    });
  }

  async #grow(
    seed: Seed,
    params: CheckedParamsOf<'vm.fork'>,
    operation: OperationHandle,
    began: number,
  ): Promise<VmForked> {
    const { registry, reservations } = this.#deps;
    const image = await this.#deps.images.ensure(seed.source.spec.imageName, operation);
    // The source has its ports of the host.
    const spec: VmSpec = { ...seed.source.spec, publish: [], ephemeral: params.ephemeral };
    const names = this.#names(params, seed.source.name);
    operation.progress({
      step: 'fork',
      text: `starting ${names.join(', ')}`,
      done: 0,
      total: names.length,
      unit: 'items',
    });
    const abort = new AbortController();
    const signal = AbortSignal.any([operation.signal, abort.signal]);
    let done = 0;
    const made = await Promise.allSettled(
      names.map(async (name) => {
        try {
          const vm = reservations.reserve(name, spec, image, seed.source.workspace);
          await this.#start(vm, seed, image, { ...operation, signal, progress: () => undefined });
          done += 1;
          operation.progress({
            step: 'fork',
            text: `started ${name}`,
            done,
            total: names.length,
            unit: 'items',
          });
          return vm;
        } catch (error) {
          abort.abort();
          throw error;
        }
      }),
    );
    await this.#allOrNone(made);
    const vms = made.flatMap((one) =>
      one.status === 'fulfilled' ? [registry.view(registry.row(one.value.id))] : [],
    );
    return { vms, pauseMs: seed.pauseMs, elapsedMs: performance.now() - began };
  }

  #names({ name, count }: CheckedParamsOf<'vm.fork'>, source: string): readonly string[] {
    const { reservations } = this.#deps;
    if (name === undefined || count > 1) return reservations.numbered(name ?? source, count);
    reservations.assertFree(name);
    return [name];
  }

  async #start(
    vm: VmRecord,
    { dir, frozen }: Seed,
    image: Awaited<ReturnType<ImageService['ensure']>>,
    operation: OperationHandle,
  ): Promise<void> {
    const { registry, lifecycle, workspaces } = this.#deps;
    await lifecycle.locked(vm.id, NEVER, () =>
      withUndo(async (undo) => {
        await undo.step(
          'vm',
          async () => {
            const files = registry.files(vm.id);
            await mkdir(files.dir, { recursive: true, mode: 0o700 });
            await placeDisks(dir, files);
            // The memory has it mounted.
            const errand =
              frozen === undefined && vm.workspace ? workspaces.remount(vm.workspace) : undefined;
            const from = frozen === undefined ? 'best' : ({ frozen, identity: 'new' } as const);
            await lifecycle.start(vm, image, errand, operation, from);
            await registry.save(registry.changed(vm.id, 'running', { pending: undefined }));
          },
          () => lifecycle.remove(vm),
        );
      }),
    );
  }

  /** The first failure that was not only the others' end is the reason; those that had started go. */
  async #allOrNone(made: readonly PromiseSettledResult<VmRecord>[]): Promise<void> {
    const { registry, lifecycle, log } = this.#deps;
    const reasons = made.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    if (reasons.length === 0) return;
    for (const one of made) {
      if (one.status === 'rejected') continue;
      const vm = registry.find(one.value.id);
      if (vm === undefined) continue;
      await lifecycle
        .locked(vm.id, NEVER, () => lifecycle.remove(vm))
        .catch((error: unknown) =>
          log.error({ vm: vm.name, reason: errorText(error) }, 'could not remove a fork'),
        );
    }
    throw (
      reasons.find((reason) => !(reason instanceof BangerError && reason.code === 'cancelled')) ?? reasons[0]
    );
  }
}
