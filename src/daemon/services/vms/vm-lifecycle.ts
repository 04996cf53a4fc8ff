/**
 * Starting, ending and removing a VM. Every method but `interruptStart` and `locked` expects the VM's lock to be held:
 * the lock is held over the whole of a start, a stop, a deletion.
 */

import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import { now } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import type { Store } from '../../../store/store.ts';
import { assertReadable } from '../../../store/vm-row.ts';
import { abandonable } from '../../abandonable.ts';
import { endExchange, exchangeDisks } from '../../disk-exchange.ts';
import { KeyedLock } from '../../keyed-lock.ts';
import type { OperationHandle } from '../../operations.ts';
import { removeHandles, removeSocketDir, type VmFiles } from '../../vm-files.ts';
import { removeVmRecord } from '../../vm-record-file.ts';
import type { ImageService, LocalImage } from '../images/image-service.ts';
import type { LiveVm } from './live-vm.ts';
import { endMachine } from './machine-start.ts';
import { dropSavedMemory } from './saved-memory.ts';
import type { GuestErrand } from '../guests/guest-errand.ts';
import type { FrozenStart, StartFrom } from './guest-starts.ts';
import type { VmBoot } from './vm-boot.ts';
import type { PortForwards } from '../ports/port-forwards.ts';
import type { Transfers } from '../guests/transfers.ts';
import { setGuestClock } from '../guests/guest-clock.ts';
import { wake } from './vm-pause.ts';
import type { VmRegistry } from './vm-registry.ts';
import type { WorkspaceService } from '../workspaces/workspace-service.ts';

/** A dead agent costs a stop at most this. */
const AGENT_ALIVE_TIMEOUT_MS = 2000;
/** One that has just been woken may have to be read back from the host's swap first. */
const AGENT_WOKEN_TIMEOUT_MS = 10_000;
/** A VMM that does not say whether its guest stands still is taken for one whose guest runs. */
const WAKE_TIMEOUT_MS = 2000;
/** What a living guest gets to end its programs before they are killed … */
const POWER_OFF_GRACE_MS = 3000;
/** … and to write everything to disk. */
const POWER_OFF_TIMEOUT_MS = 60_000;
/** A guest that refuses because it is powering off already gets this long to be done. */
const POWERING_OFF_MS = 10_000;
const EXIT_LOCK_TIMEOUT_MS = 120_000;

export interface VmLifecycleDeps {
  readonly registry: VmRegistry;
  readonly store: Store;
  readonly log: Log;
  readonly boot: VmBoot;
  readonly images: ImageService;
  readonly workspaces: WorkspaceService;
  readonly forwards: PortForwards;
  readonly transfers: Transfers;
  /** What is kept of VMs elsewhere goes with them. */
  readonly onRemoved?: (vmId: string) => Promise<void>;
}

export class VmLifecycle {
  readonly #deps: VmLifecycleDeps;
  readonly #locks = new KeyedLock();
  /** Starts under way, so that a deletion need not wait for them. */
  readonly #starting = new Map<string, AbortController>();

  constructor(deps: VmLifecycleDeps) {
    this.#deps = deps;
  }

  /** @throws {BangerError} `cancelled` while waiting */
  async locked<T>(id: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return await this.#locks.run(id, signal, work);
  }

  /** Cancels a start under way, if there is one; its undo runs before the lock is free. */
  interruptStart(id: string): boolean {
    const starting = this.#starting.get(id);
    starting?.abort();
    return starting !== undefined;
  }

  /** Starts a VM that has been stopped: its disk, and the workspace on it, are as they were. */
  async startAgain(vm: VmRecord, operation: OperationHandle): Promise<VmRecord> {
    const { registry, images, workspaces } = this.#deps;
    vm = (await this.finishExchange(vm.id)) ?? vm;
    assertDisk(vm, registry.files(vm.id));
    const image = await images.ensure(vm.spec.imageName, operation);
    const errand = vm.workspace === null ? undefined : workspaces.remount(vm.workspace);
    return await this.#startStopped(vm, image, errand, operation, 'best');
  }

  /** Starts a VM that does not run from memory that fits its disks. What was mounted is. */
  async startFrozen(
    vm: VmRecord,
    image: LocalImage,
    from: FrozenStart,
    operation: OperationHandle,
  ): Promise<VmRecord> {
    return await this.#startStopped(vm, image, undefined, operation, from);
  }

  async #startStopped(
    vm: VmRecord,
    image: LocalImage,
    errand: GuestErrand | undefined,
    operation: OperationHandle,
    from: StartFrom,
  ): Promise<VmRecord> {
    const { registry } = this.#deps;
    try {
      await this.start(vm, image, errand, operation, from);
    } catch (error) {
      if (error instanceof BangerError && error.code === 'cancelled') registry.update(vm.id, vm.state);
      else registry.update(vm.id, 'error', { lastError: errorText(error) });
      throw error;
    }
    const started = registry.update(vm.id, 'running', { pending: undefined });
    await this.keepRecord(vm);
    return started;
  }

  /**
   * Brings an exchange of the disks of a VM that does not run to its end, if one was committed: its row says then what its
   * disks are. @returns its row; undefined: there was none
   */
  async finishExchange(id: string): Promise<VmRecord | undefined> {
    const { registry } = this.#deps;
    const files = registry.files(id);
    if (registry.live(id) !== undefined) return undefined;
    const of = await exchangeDisks(files);
    if (of === undefined) return undefined;
    const stopped = registry.changed(id, 'stopped', { lastError: undefined });
    const saved = await registry.saveExchanged({ ...stopped, ...of });
    await endExchange(files);
    return saved;
  }

  /** Best effort: the row is what counts, and the next chance to mend its copy comes. */
  async keepRecord(vm: VmRecord): Promise<void> {
    try {
      await this.#deps.registry.keepRecord(vm.id);
    } catch (error) {
      this.#deps.log.warn({ vm: vm.name, err: error }, 'could not bring vm.json up to date');
    }
  }

  /** Boots and watches. The row stays in `starting`: the caller decides when it is done. */
  async start(
    vm: VmRecord,
    image: LocalImage,
    errand: GuestErrand | undefined,
    operation: OperationHandle,
    from: StartFrom,
  ): Promise<void> {
    const { registry, boot, forwards } = this.#deps;
    assertReadable(vm);
    const abort = new AbortController();
    this.#starting.set(vm.id, abort);
    registry.update(vm.id, 'starting', {
      lastError: undefined,
      stoppedAt: undefined,
      forwarded: undefined,
    });
    try {
      const signal = AbortSignal.any([operation.signal, abort.signal]);
      const published = await forwards.open(vm);
      const { live, runtime } = await boot.boot(vm, image, errand, { ...operation, signal }, from);
      this.watch(live);
      registry.update(vm.id, 'starting', { ...runtime, published: orNone(published) });
      registry.touch(vm.id);
    } catch (error) {
      forwards.close(vm.id);
      throw error;
    } finally {
      this.#starting.delete(vm.id);
    }
  }

  /** A VM that was saved goes on as it was. Its published ports are open, and clients may be waiting at them. */
  async goOn(vm: VmRecord, image: LocalImage, from: FrozenStart, operation: OperationHandle): Promise<void> {
    const { live } = await this.#deps.boot.boot(vm, image, undefined, operation, from);
    this.watch(live);
    this.#deps.registry.touch(vm.id);
  }

  /** The process of a VM whose memory was saved ends, if there is one; its published ports stay open. Idempotent. */
  async endProcess(vm: VmRecord): Promise<void> {
    const { registry } = this.#deps;
    const files = registry.files(vm.id);
    const live = registry.live(vm.id);
    if (live !== undefined) await endMachine(live);
    await removeSocketDir(files);
    await removeHandles(files);
    if (live !== undefined) registry.dropLive(live);
  }

  /** From now on the machine's unasked end is noticed, recorded and cleaned up after. */
  watch(live: LiveVm): void {
    this.#deps.registry.setLive(live);
    void live.exited.then(async () => {
      if (live.ending) return;
      await this.#onUnaskedExit(live).catch((error: unknown) => {
        this.#deps.log.error({ vm: live.id, err: error }, 'could not clean up after a VMM that ended');
      });
    });
  }

  async #onUnaskedExit(live: LiveVm): Promise<void> {
    const { registry, log } = this.#deps;
    const exit = await live.exited;
    log.warn({ vm: live.id, exit }, 'the VMM ended unasked');
    await this.locked(live.id, AbortSignal.timeout(EXIT_LOCK_TIMEOUT_MS), async () => {
      const vm = registry.find(live.id);
      if (vm === undefined || registry.live(live.id) !== live) return;
      await this.tearDown(vm);
      const how = exit.signal ?? (exit.exitCode === null ? 'cause unknown' : `exit status ${exit.exitCode}`);
      const poweredOff = exit.exitCode === 0;
      registry.update(vm.id, poweredOff ? 'stopped' : 'error', {
        lastError: poweredOff ? undefined : `the VMM ended unasked (${how})`,
        stoppedAt: now(),
      });
    });
  }

  /** @param how gracefully: the guest writes its data to disk first; at once: that data is lost */
  async end(vm: VmRecord, how: 'gracefully' | 'at once', operation: OperationHandle): Promise<VmRecord> {
    const { registry, transfers } = this.#deps;
    if (how === 'gracefully') await transfers.finish(vm.id);
    transfers.cancel(vm.id, `VM "${vm.name}" is being stopped`);
    registry.update(vm.id, 'stopping');
    await dropSavedMemory(registry.files(vm.id));
    if (how === 'gracefully') await this.#powerOff(vm, operation);
    await this.tearDown(vm);
    return registry.update(vm.id, 'stopped', { stoppedAt: now(), lastError: undefined, heldBy: undefined });
  }

  /** Asks the agent to write everything and power off. A guest that does not answer is left to the kill that follows. */
  async #powerOff(vm: VmRecord, operation: OperationHandle): Promise<void> {
    const live = this.#deps.registry.live(vm.id);
    if (live === undefined) return;
    live.ending = true;
    operation.progress({ step: 'power_off', text: `stopping ${vm.name}` });
    const woken = await this.#wake(vm, live);
    const timeoutMs = woken ? AGENT_WOKEN_TIMEOUT_MS : AGENT_ALIVE_TIMEOUT_MS;
    let alive = false;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      const agent = await live.agent(signal, timeoutMs);
      await (woken ? setGuestClock(agent, signal) : agent.health(signal));
      alive = true;
      await agent.powerOff(POWER_OFF_GRACE_MS, undefined, POWER_OFF_TIMEOUT_MS);
    } catch (error) {
      // It may be about to: an earlier daemon asked it, and it is writing its data to disk.
      if (alive) await Promise.race([live.exited, sleep(POWERING_OFF_MS, undefined, { ref: false })]);
      this.#deps.log.warn({ vm: vm.name, err: error }, 'the guest did not power off; ending its VMM');
    }
  }

  /** A guest that stands still cannot write its data to disk. @returns whether it stood */
  async #wake(vm: VmRecord, { machine }: LiveVm): Promise<boolean> {
    try {
      return await abandonable(wake(machine), AbortSignal.timeout(WAKE_TIMEOUT_MS));
    } catch (error) {
      this.#deps.log.warn({ vm: vm.name, err: error }, 'could not tell whether the guest stands still');
      return false;
    }
  }

  /** Process, sockets, handles: all of it, whatever fails on the way. Disks stay. Idempotent. */
  async tearDown(vm: VmRecord): Promise<void> {
    const { registry, forwards } = this.#deps;
    const files = registry.files(vm.id);
    const live = registry.live(vm.id);
    forwards.close(vm.id);
    const machine = await Promise.allSettled([live === undefined ? undefined : endMachine(live)]);
    const rest = await Promise.allSettled([removeSocketDir(files), removeHandles(files)]);
    if (live !== undefined) registry.dropLive(live);
    const failed = [...machine, ...rest].filter((outcome) => outcome.status === 'rejected');
    if (failed.length === 0) return;
    const reasons = failed.map((outcome) => errorText(outcome.reason)).join('; ');
    throw new BangerError('vmm_failed', `VM "${vm.name}" could not be cleaned up: ${reasons}`);
  }

  /**
   * Everything of it. The row goes last, and says before that a deletion has begun; vm.json goes first, so that from
   * then on what is left of the VM is swept even if its row is lost.
   */
  async remove(vm: VmRecord): Promise<void> {
    const { registry, store, log, transfers, onRemoved } = this.#deps;
    transfers.cancel(vm.id, `VM "${vm.name}" is being deleted`);
    // A damaged row cannot be written again; it can be deleted.
    if (isReadable(vm)) registry.update(vm.id, 'stopping', { pending: 'delete' });
    await removeVmRecord(registry.files(vm.id).dir);
    await this.tearDown(vm);
    await registry.removeFiles(vm.id);
    store.deleteVm(vm.id);
    await onRemoved?.(vm.id).catch((error: unknown) => {
      log.warn({ vm: vm.name, err: error }, 'something is still kept of a VM that is gone');
    });
  }
}

/** Most VMs publish nothing, and their rows need not say so. */
function orNone<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

/** A row can come without its disk, by a restore. A new, empty one in its place would be a lie. */
function assertDisk(vm: VmRecord, { dir, rootDisk }: VmFiles): void {
  // In `error` it may be one whose first start never came as far as its disk.
  const hadDisk = vm.state === 'stopped' || vm.runtime.startedAt !== undefined;
  if (!hadDisk || existsSync(rootDisk)) return;
  throw new BangerError('invalid_state', `VM "${vm.name}" has no disk: ${rootDisk} is not there`, {
    hint: `copy its directory to ${dir}, or delete it: banger vm delete ${vm.name}`,
  });
}

function isReadable(vm: VmRecord): boolean {
  try {
    assertReadable(vm);
    return true;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}
