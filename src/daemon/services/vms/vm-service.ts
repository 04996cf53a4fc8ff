/** What users ask of VMs: decides whether it may be, takes the VM's lock, and has it done. */

import { existsSync } from 'node:fs';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { VmCreated, VmDetail, VmView } from '../../../api/results/vm.ts';
import { BangerError } from '../../../core/errors.ts';
import { assertLegal, isLegal, type VmAction } from '../../../core/lifecycle.ts';
import type { VmRecord, VmSpec } from '../../../core/model/vm.ts';
import { checkPublishedPorts } from '../../../core/published-port.ts';
import { checkVmSpec, type VmPolicy } from '../../../core/policy/vm-policy.ts';
import { NO_TOOLS } from '../../../core/toolingplan/plan.ts';
import { now } from '../../../host/clock.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import type { Store } from '../../../store/store.ts';
import { assertReadable } from '../../../store/vm-row.ts';
import type { VmmDriver } from '../../../vmm/driver.ts';
import type { OperationHandle } from '../../operations.ts';
import { withUndo } from '../../undo.ts';
import { assertDriverCan, diskFormatOf } from './driver-limits.ts';
import type { ImageService, LocalImage } from '../images/image-service.ts';
import type { Standby, StandbyMachine } from './standby.ts';
import type { TemplateKeys } from '../templates/template-keys.ts';
import { assertInstallable } from '../guests/tool-bootstrap.ts';
import type { PlatformService } from '../images/platform-service.ts';
import type { VmBoot } from './vm-boot.ts';
import type { VmLifecycle } from './vm-lifecycle.ts';
import type { VmPause } from './vm-pause.ts';
import type { VmRegistry } from './vm-registry.ts';
import type { VmSleep } from './vm-sleep.ts';
import type { VmReservations } from './vm-reservations.ts';
import { placementOf, reportOf, type WorkspaceService } from '../workspaces/workspace-service.ts';

/** For waits that end by themselves. */
const NEVER = new AbortController().signal;
const GROW_TIMEOUT_MS = 60_000;
const RELEASE_TIMEOUT_MS = 20_000;

export interface VmServiceDeps {
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly pause: VmPause;
  readonly sleep: VmSleep;
  readonly store: Store;
  readonly reservations: VmReservations;
  readonly runner: CommandRunner;
  readonly driver: VmmDriver;
  readonly images: ImageService;
  readonly platforms: PlatformService;
  readonly keys: TemplateKeys;
  readonly standby: Standby;
  readonly workspaces: WorkspaceService;
  readonly boot: VmBoot;
  readonly policy: VmPolicy;
  readonly defaultImage: string;
  readonly natByDefault: boolean;
}

export class VmService {
  readonly #deps: VmServiceDeps;

  constructor(deps: VmServiceDeps) {
    this.#deps = deps;
  }

  /**
   * Creates a VM and, unless told otherwise, boots it. A failure or a cancellation leaves nothing of it.
   * @throws {BangerError} `bad_request`, `already_exists`, `not_found` (image), and what a boot throws
   */
  async create(params: CheckedParamsOf<'vm.create'>, operation: OperationHandle): Promise<VmCreated> {
    const begun = performance.now();
    const { images, platforms, workspaces, lifecycle, registry, reservations, store } = this.#deps;
    const spec = this.#specOf(params);
    if (params.name !== undefined) reservations.assertFree(params.name);
    const source = params.workspace;
    const placement = source && placementOf(source);
    const plan = source && (await workspaces.plan(source, operation.signal));
    const tools = plan === undefined ? NO_TOOLS : await workspaces.tools(plan, operation.signal);
    if (params.bootstrap) assertInstallable(tools, spec.nat);
    const image = await images.ensure(spec.imageName, operation);
    assertDiskHolds(spec, image);
    if (params.start) await platforms.platform(spec.accel, image.kernel, operation);
    if (operation.signal.aborted) throw new BangerError('cancelled', 'cancelled');
    const standby = await this.#standbyFor(params, spec, image, operation);
    const reserved = await this.#reserve(params.name, spec, image, standby);
    operation.about(reserved.name);
    const from = standby === undefined ? (params.cold ? 'boot' : 'best') : { standby };
    const shipping = plan && placement && workspaces.ship(plan, placement, tools, operation.progress);
    // The row is new, so its lock is free; from here on a cancellation is undone.
    await lifecycle.locked(reserved.id, NEVER, () =>
      withUndo(async (undo) => {
        // What fails before the machine is the VM's leaves it to nobody.
        await undo.step(
          'standby',
          async () => undefined,
          () => this.#deps.standby.discard(standby),
        );
        await undo.step(
          'vm',
          async () => {
            if (params.start) await lifecycle.start(reserved, image, shipping?.errand, operation, from);
            if (shipping !== undefined) store.setVmWorkspace(reserved.id, shipping.record(), now());
            const state = params.start ? 'running' : 'created';
            await registry.save(registry.changed(reserved.id, state, { pending: undefined }));
          },
          () => lifecycle.remove(reserved),
        );
      }),
    );
    return {
      vm: registry.view(registry.row(reserved.id)),
      workspace: plan && placement ? reportOf(plan, placement) : null,
      tools: plan === undefined ? null : tools,
      elapsedMs: performance.now() - begun,
    };
  }

  /** One that waits already, and another one for the next VM. */
  async #standbyFor(
    { start, cold }: CheckedParamsOf<'vm.create'>,
    spec: VmSpec,
    image: LocalImage,
    operation: OperationHandle,
  ): Promise<StandbyMachine | undefined> {
    const { platforms, keys, standby } = this.#deps;
    if (!start || cold) return undefined;
    const platform = await platforms.platform(spec.accel, image.kernel, operation);
    const { vcpus, memoryMib, diskSizeBytes } = spec;
    const wanted = { image, platform, vcpus, memoryMib };
    const { key } = await keys.of(wanted, operation.signal);
    const ready = standby.take(key, diskSizeBytes);
    standby.prepare(wanted, diskSizeBytes);
    return ready;
  }

  async #reserve(
    name: string | undefined,
    spec: VmSpec,
    image: LocalImage,
    standby: StandbyMachine | undefined,
  ): Promise<VmRecord> {
    try {
      return this.#deps.reservations.reserve(name, spec, image, null, standby?.id);
    } catch (error) {
      await this.#deps.standby.discard(standby);
      throw error;
    }
  }

  async start(ref: string, operation: OperationHandle): Promise<VmView> {
    return await this.#act('start', ref, operation, (vm) =>
      vm.state === 'saved' ? this.#resume(vm, operation) : this.#deps.lifecycle.startAgain(vm, operation),
    );
  }

  /** Writes the guest's data to disk and ends it. */
  async stop(ref: string, operation: OperationHandle): Promise<VmView> {
    return await this.#act('stop', ref, operation, (vm) => this.#stop(vm, operation));
  }

  async restart(ref: string, operation: OperationHandle): Promise<VmView> {
    const { lifecycle, registry } = this.#deps;
    return await this.#act('restart', ref, operation, async (vm) => {
      if (isLegal('stop', vm.state)) await this.#stop(vm, operation);
      return await lifecycle.startAgain(registry.row(vm.id), operation);
    });
  }

  /** The guest stands still until `resume`, with all that is in its memory; with `save` that is on disk. */
  async pause(ref: string, save: boolean, operation: OperationHandle): Promise<VmView> {
    return await this.#act('pause', ref, operation, (vm) =>
      save ? this.#deps.sleep.save(vm, 'user', operation) : this.#pause(vm, operation),
    );
  }

  /** The guest goes on where it stood, and knows what time it is. */
  async resume(ref: string, operation: OperationHandle): Promise<VmView> {
    return await this.#act('resume', ref, operation, (vm) => this.#resume(vm, operation));
  }

  /** Ends the VMM process with a signal. What the guest has not written to disk is lost. */
  async kill(ref: string, signal: string, operation: OperationHandle): Promise<VmView> {
    if (signal !== 'KILL') {
      throw new BangerError('bad_request', `a VM cannot be sent SIG${signal}`, {
        hint: `banger vm stop ${ref} ends it in good order; banger vm exec ${ref} -- kill … reaches its programs`,
      });
    }
    const { lifecycle, registry } = this.#deps;
    const target = registry.resolve(ref);
    if (!lifecycle.interruptStart(target.id)) {
      return await this.#act('kill', ref, operation, (vm) => lifecycle.end(vm, 'at once', operation));
    }
    // The start undoes itself, and a creation with it; unless it was done just before.
    return await lifecycle.locked(target.id, operation.signal, async () => {
      const vm = registry.find(target.id) ?? { ...target, state: 'stopped' as const };
      const runs = ['running', 'paused', 'saved'].includes(vm.state);
      return registry.view(runs ? await lifecycle.end(vm, 'at once', operation) : vm);
    });
  }

  /** Removes a VM in any state: process, disks, row. Irreversible. */
  async delete(ref: string, operation: OperationHandle): Promise<VmView> {
    const vm = this.#deps.registry.resolve(ref);
    operation.about(vm.name);
    const last = this.#deps.registry.view(vm);
    await this.removeById(vm.id, operation.signal);
    return last;
  }

  /** Deletes what does not run. With `dryRun`: only says what that would be. */
  async prune(dryRun: boolean, operation: OperationHandle): Promise<readonly VmView[]> {
    const idle = this.list().filter(isIdle);
    if (dryRun) return idle;
    const removed = await Promise.all(idle.map((vm) => this.#removeIdle(vm, operation.signal)));
    return removed.flatMap((vm) => vm ?? []);
  }

  list(): readonly VmView[] {
    return this.#deps.registry.list();
  }

  async show(ref: string): Promise<VmDetail> {
    const { registry } = this.#deps;
    const vm = registry.resolve(ref);
    const { consoleLog, vmmLog } = registry.files(vm.id);
    const argv = registry.live(vm.id)?.machine.handles.argv ?? (await this.#plannedArgv(vm));
    return { ...registry.view(vm), argv, consoleLogPath: consoleLog, vmmLogPath: vmmLog };
  }

  /** Changes what the next start uses; a disk can only grow. */
  async set(params: CheckedParamsOf<'vm.set'>, operation: OperationHandle): Promise<VmView> {
    const { policy, registry, lifecycle, driver } = this.#deps;
    return await this.#act('set', params.ref, operation, async (row) => {
      const vm = (await lifecycle.finishExchange(row.id)) ?? row;
      assertReadable(vm);
      const spec = checkVmSpec({ ...vm.spec, ...definedSizing(params) }, policy);
      assertDriverCan(driver, spec);
      if (spec.diskSizeBytes < vm.spec.diskSizeBytes) {
        throw new BangerError('bad_request', `the disk of VM "${vm.name}" can only grow`, {
          hint: `it is ${vm.spec.diskSizeBytes / 1024 ** 3} GiB; a smaller one needs a new VM`,
        });
      }
      if (spec.diskSizeBytes > vm.spec.diskSizeBytes) await this.#growDisk(vm, spec.diskSizeBytes);
      return await registry.save({ ...registry.row(vm.id), spec, updatedAt: now() });
    });
  }

  /** Measures a VM now. */
  async stats(ref: string): Promise<VmView> {
    const { registry } = this.#deps;
    const { id } = registry.resolve(ref);
    await registry.sample(id);
    return registry.view(registry.row(id));
  }

  /** Nothing is removed that was started since the list was made. */
  async #removeIdle(vm: VmView, signal: AbortSignal): Promise<VmView | undefined> {
    const { lifecycle, registry } = this.#deps;
    return await lifecycle.locked(vm.id, signal, async () => {
      const row = registry.find(vm.id);
      if (row === undefined || !isIdle(row)) return undefined;
      await lifecycle.remove(row);
      return vm;
    });
  }

  /** Removes a VM whatever it is doing. One that is already gone is no error. */
  async removeById(id: string, signal: AbortSignal): Promise<void> {
    const { lifecycle, registry } = this.#deps;
    lifecycle.interruptStart(id);
    await lifecycle.locked(id, signal, async () => {
      const vm = registry.find(id);
      if (vm !== undefined) await lifecycle.remove(vm);
    });
  }

  /** Lets go of every VM without touching it; the ephemeral ones, whose clients are leaving, are removed. */
  async release(): Promise<void> {
    const { registry } = this.#deps;
    const ephemeral = registry.rows().filter((vm) => vm.spec.ephemeral);
    const signal = AbortSignal.timeout(RELEASE_TIMEOUT_MS);
    await Promise.allSettled(ephemeral.map((vm) => this.removeById(vm.id, signal)));
    for (const live of registry.allLive()) live.release();
  }

  /** The lock first, then the state: what is legal is decided on the row as it is once the lock is ours. */
  async #act(
    action: VmAction,
    ref: string,
    operation: OperationHandle,
    work: (vm: VmRecord) => Promise<VmRecord>,
  ): Promise<VmView> {
    const { registry, lifecycle } = this.#deps;
    const { id, name } = registry.resolve(ref);
    operation.about(name);
    return await lifecycle.locked(id, operation.signal, async () => {
      const vm = registry.row(id);
      assertLegal(action, vm.state, vm.name);
      return registry.view(await work(vm));
    });
  }

  /** One that is saved already needs not go on for it. */
  async #pause(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { pause, registry } = this.#deps;
    if (vm.state === 'saved') return registry.update(vm.id, 'saved', { heldBy: 'user' });
    return await pause.pause(vm, 'user', operation);
  }

  async #resume(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { pause, sleep } = this.#deps;
    return await (vm.state === 'saved' ? sleep.goOn(vm, operation) : pause.resume(vm, operation));
  }

  /** What a guest whose memory was saved has not written to its disk, it must write first. */
  async #stop(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { sleep, lifecycle } = this.#deps;
    const awake = vm.state === 'saved' ? await sleep.goOn(vm, operation) : vm;
    return await lifecycle.end(awake, 'gracefully', operation);
  }

  #specOf(params: CheckedParamsOf<'vm.create'>): VmSpec {
    const { policy, defaultImage, natByDefault, driver } = this.#deps;
    const wanted: VmSpec = {
      imageName: params.image ?? defaultImage,
      vcpus: policy.defaults.vcpus.value,
      memoryMib: policy.defaults.memoryMib.value,
      diskSizeBytes: policy.defaults.diskSizeBytes.value,
      nat: natByDefault,
      init: params.init ?? 'agent',
      accel: params.accel ?? policy.accel,
      driver: driver.name,
      ephemeral: params.ephemeral,
      publish: checkPublishedPorts(params.publish),
      ...definedSizing(params),
    };
    assertDriverCan(driver, wanted);
    return checkVmSpec(wanted, policy);
  }

  /** Only from what is here: nothing is built or probed to show a VM, and one in trouble is shown, too. Else empty. */
  async #plannedArgv(vm: VmRecord): Promise<readonly string[]> {
    const { images, platforms, driver, boot } = this.#deps;
    try {
      const image = await images.find(vm.spec.imageName);
      const platform = image && (await platforms.known(vm.spec.accel, image.kernel));
      if (image === undefined || platform === undefined) return [];
      return await driver.argv(await boot.machineSpec(vm, image, platform));
    } catch (error) {
      if (error instanceof BangerError) return [];
      throw error;
    }
  }

  async #growDisk(vm: VmRecord, sizeBytes: number): Promise<void> {
    const { rootDisk } = this.#deps.registry.files(vm.id);
    // A VM that was never started gets its disk, of that size, when it is.
    if (!existsSync(rootDisk)) return;
    const argv = ['qemu-img', 'resize', '-f', diskFormatOf(vm.spec), rootDisk, String(sizeBytes)] as const;
    await this.#deps.runner.run([...argv], { timeoutMs: GROW_TIMEOUT_MS });
  }
}

/** Neither running nor on the way to or from it, nor being created or deleted. */
function isIdle({ state, runtime }: VmRecord): boolean {
  return ['created', 'stopped', 'error'].includes(state) && runtime.pending === undefined;
}

function assertDiskHolds(spec: VmSpec, image: LocalImage): void {
  const minimum = image.manifest.rootfs.virtualSizeBytes;
  if (spec.diskSizeBytes >= minimum) return;
  throw new BangerError(
    'bad_request',
    `image "${spec.imageName}" needs a disk of at least ${Math.ceil(minimum / 1024 ** 3)} GiB`,
    { hint: 'disks are sparse: a larger one costs nothing until it is written to' },
  );
}

interface Sizing {
  readonly vcpus?: number | undefined;
  readonly memoryMib?: number | undefined;
  readonly diskSizeBytes?: number | undefined;
  readonly nat?: boolean | undefined;
}

/** Only what was given: an absent field must not overwrite a default. */
function definedSizing({ vcpus, memoryMib, diskSizeBytes, nat }: Sizing): Partial<VmSpec> {
  return {
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(memoryMib === undefined ? {} : { memoryMib }),
    ...(diskSizeBytes === undefined ? {} : { diskSizeBytes }),
    ...(nat === undefined ? {} : { nat }),
  };
}
