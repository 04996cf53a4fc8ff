/** From a row to a guest that answers: the named steps of a start, each with its undo. */

import { randomUUID } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import type { Progress } from '../../api/contract.ts';
import { BangerError } from '../../core/errors.ts';
import type { StartedFrom, VmRecord, VmRuntime } from '../../core/model/vm.ts';
import { type FrozenMachine, frozenPaths } from '../../frozen/manifest.ts';
import { frozenTemplate, type Template } from '../../frozen/template-store.ts';
import { now } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { BangerPaths } from '../../host/paths.ts';
import { copyRootDisk, createRootDisk } from '../../images/disk.ts';
import { buildGuestConfig } from '../../guest/guest-config.ts';
import type { DriverCapabilities, MachineSpec, Platform, UserNetwork, VmmDriver } from '../../vmm/driver.ts';
import type { OperationHandle } from '../operations.ts';
import { type Undo, withUndo } from '../undo.ts';
import {
  makeSocketDir,
  makeTransferDisk,
  removeHandles,
  removeSocketDir,
  type VmFiles,
  vmFiles,
} from '../vm-files.ts';
import { beginErrand, type GuestErrand } from './guest-errand.ts';
import { assertMadeFor, networkFor, rootDiskFormat } from './driver-limits.ts';
import { userNetworkOf } from './guest-network.ts';
import type { LocalImage } from './image-service.ts';
import type { LiveVm } from './live-vm.ts';
import type { LocalKernel } from './kernel-service.ts';
import { writeMachineFacts } from './machine-facts.ts';
import {
  CONFIGURE_TIMEOUT_MS,
  configureRestored,
  type MachineRestore,
  restoreMachine,
} from './machine-restore.ts';
import { machineSpec } from './machine-spec.ts';
import { endMachine, type StartedMachine, startMachine } from './machine-start.ts';
import type { PlatformService } from './platform-service.ts';
import type { StandbyMachine } from './standby.ts';
import { dropSavedMemory } from './saved-memory.ts';
import type { TemplateFacts, TemplateKeys, TemplateWanted } from './template-keys.ts';
import type { TemplateService } from './template-service.ts';
import { configureCopy, setGuestClock } from './guest-clock.ts';

/** A machine that stood still answers at once, or never. */
const STANDBY_TIMEOUT_MS = 5000;
/** Of a guest whose memory is lost when it is given up. */
const KEPT_HELLO_TIMEOUT_MS = 60_000;

export interface BootOutcome {
  readonly live: LiveVm;
  readonly runtime: VmRuntime;
}

/** Memory that a VM goes on from; its disks are in its directory already, as they were when that was frozen. */
export interface FrozenStart {
  readonly frozen: FrozenMachine;
  /** `new`: others go on from the same memory, so it must become a machine of its own. `kept`: it is itself again. */
  readonly identity: 'new' | 'kept';
  /** Awaited right before the guest goes on, and so may write to its disks. */
  readonly beforeRun?: () => Promise<void>;
}

/** A machine that has been waiting for a VM of this kind. Its disks are in the directory of the VM, whose id it has. */
export interface StandbyStart {
  readonly standby: StandbyMachine;
}

/** `best`: a template where there is one; a boot otherwise, and for a VM that has its disk already. */
export type StartFrom = 'best' | 'boot' | FrozenStart | StandbyStart;

export interface VmBootDeps {
  readonly paths: BangerPaths;
  readonly driver: VmmDriver;
  readonly platforms: PlatformService;
  readonly keys: TemplateKeys;
  readonly templates: TemplateService;
  readonly log: Log;
}

interface StartedGuest extends StartedMachine {
  readonly startedFrom: StartedFrom;
}

/** One start of one VM: what its steps share. */
interface Start {
  readonly vm: VmRecord;
  readonly image: LocalImage;
  readonly wanted: TemplateWanted;
  readonly facts: TemplateFacts;
  readonly spec: MachineSpec;
  readonly files: VmFiles;
  readonly undo: Undo;
  readonly signal: AbortSignal;
  readonly say: (step: string, text: string) => void;
}

export class VmBoot {
  readonly #deps: VmBootDeps;

  constructor(deps: VmBootDeps) {
    this.#deps = deps;
  }

  /**
   * Starts a VM and makes it a machine of its own. When it throws, nothing of this start is left: no process, no socket;
   * a disk that was there before stays.
   * @throws {BangerError} `vmm_failed`, `guest_failed`, `no_space`, `cancelled` …
   */
  async boot(
    vm: VmRecord,
    image: LocalImage,
    errand: GuestErrand | undefined,
    operation: OperationHandle,
    from: StartFrom,
  ): Promise<BootOutcome> {
    const { paths, platforms, keys, driver } = this.#deps;
    assertMadeFor(driver, vm);
    const files = vmFiles(paths, vm.id);
    const say = (step: string, text: string): void => operation.progress({ step, text } satisfies Progress);
    const platform = await platforms.platform(vm.spec.accel, image.kernel, operation);
    const { vcpus, memoryMib } = vm.spec;
    const wanted = { image, platform, vcpus, memoryMib };
    const earlier = isFrozen(from) ? from.frozen.initramfsSha256 : undefined;
    const facts = await keys.of(wanted, operation.signal, earlier);
    const { capabilities } = driver;
    const spec = specOf(capabilities, vm, image.kernel, platform, files, facts.initramfsPath);
    return await withUndo(async (undo) => {
      // A machine that waits has its disk open already, and nobody else has it.
      const waits = typeof from === 'object' && !isFrozen(from);
      await makeVmDir(files, errand?.ships === true && !waits);
      throwIfCancelled(operation.signal);
      // It fits the disks only until a guest runs on them.
      if (!isFrozen(from) || from.identity === 'new') await dropSavedMemory(files);
      await undo.step(
        'sockets',
        () => makeSocketDir(files),
        () => removeSocketDir(files),
      );
      const begun = beginErrand(errand, files, operation.signal);
      await undo.step(
        'errand',
        async () => undefined,
        async () => {
          begun.abort();
          await begun.prepared.catch(() => undefined);
        },
      );
      const start = { vm, image, wanted, facts, spec, files, undo, signal: begun.signal, say };
      const { live, agent, startedFrom } = await begun.orItsFailure(
        (async () => {
          const started = await this.#startGuest(start, from);
          if (errand !== undefined) {
            say('workspace', 'shipping the workspace');
            await begun.prepared;
            await errand.finish(started.agent, begun.signal);
          }
          return started;
        })(),
      );
      throwIfCancelled(operation.signal);
      await writeMachineFacts(files, {
        shape: facts.shape,
        digests: facts.digests,
        kernelName: image.kernel.manifest.name,
        accelerator: platform.accelerator,
        machine: platform.machine,
        rootfsSha256: image.manifest.rootfs.sha256,
      });
      const runtime: VmRuntime = {
        accelerator: platform.accelerator,
        machine: platform.machine,
        bootId: agent.hello.bootId,
        startedAt: now(),
        startedFrom,
      };
      return { live, runtime };
    });
  }

  /** What a start of this VM means on this host's platform. */
  async machineSpec(vm: VmRecord, image: LocalImage, platform: Platform): Promise<MachineSpec> {
    const initramfs = await this.#deps.platforms.initramfs(image.kernel, platform.transport);
    const { paths, driver } = this.#deps;
    const files = vmFiles(paths, vm.id);
    return specOf(driver.capabilities, vm, image.kernel, platform, files, initramfs.path);
  }

  async #startGuest(start: Start, from: StartFrom): Promise<StartedGuest> {
    if (isFrozen(from)) return { ...(await this.#goOn(start, from)), startedFrom: 'memory' };
    if (typeof from === 'object') {
      const started = await this.#useStandby(start, from.standby);
      if (started !== undefined) return { ...started, startedFrom: 'template' };
    }
    // The memory of a template goes with the disk of a template.
    if (from === 'boot' || (await exists(start.files.rootDisk))) {
      return { ...(await this.#coldStart(start)), startedFrom: 'boot' };
    }
    const { wanted, files, signal } = start;
    const { templates } = this.#deps;
    const template = await templates.find(wanted, signal);
    if (template !== undefined) {
      try {
        return { ...(await this.#startFrom(template, start)), startedFrom: 'template' };
      } catch (error) {
        if (!isWorthBooting(error)) throw error;
        await templates.failed(template, error);
        // A guest that did not answer may have written to it all the same.
        await rm(files.rootDisk, { force: true });
      }
    }
    const started = await this.#coldStart(start);
    templates.makeLater(wanted);
    return { ...started, startedFrom: 'boot' };
  }

  /** Undefined: it is gone, with all that it was; the VM is to be started otherwise. */
  async #useStandby(start: Start, { live, markPath }: StandbyMachine): Promise<StartedMachine | undefined> {
    const { vm, files, undo, signal, say } = start;
    const end = (): Promise<void> => endWithHandles(live, files);
    say('restore', 'starting from a template');
    try {
      return await undo.step(
        'vmm',
        async () => {
          await rm(markPath, { force: true });
          const network = networkFor(this.#deps.driver.capabilities, networkOf(vm));
          if (network.kind === 'user') await live.machine.plug(network);
          await live.machine.resume();
          const agent = await live.agent(signal, STANDBY_TIMEOUT_MS);
          const config = guestConfigOf(vm, this.#deps.driver.capabilities);
          await configureCopy(agent, config, signal, CONFIGURE_TIMEOUT_MS);
          return { live, agent };
        },
        end,
      );
    } catch (error) {
      if (!isWorthBooting(error)) throw error;
      this.#deps.log.warn({ vm: vm.name, err: error }, 'a standby machine could not be used');
      await end();
      await rm(files.rootDisk, { force: true });
      return undefined;
    }
  }

  async #startFrom(template: Template, start: Start): Promise<StartedMachine> {
    const { vm, files, signal, say } = start;
    say('restore', 'starting from a template');
    await beginLogs(files);
    await copyRootDisk(frozenPaths(template.dir).rootDisk, files.rootDisk, {
      format: rootDiskFormat(this.#deps.driver.capabilities),
      sizeBytes: vm.spec.diskSizeBytes,
      signal,
    });
    const restored = await this.#restore(start, { frozen: frozenTemplate(template), mustAnswer: false });
    say('configure', 'configuring the guest');
    const started = await orEnd(restored, files, () =>
      configureRestored(restored, guestConfigOf(vm, this.#deps.driver.capabilities), signal),
    );
    await this.#deps.templates.markUsed(template);
    return started;
  }

  /** There is nothing to fall back to: the memory is what the VM is. */
  async #goOn(start: Start, from: FrozenStart): Promise<StartedMachine> {
    const { identity, ...how } = from;
    const { vm, signal, say } = start;
    say('restore', 'going on from where it stood');
    if (identity === 'kept') {
      const helloTimeoutMs = KEPT_HELLO_TIMEOUT_MS;
      const started = await this.#restore(start, { ...how, helloTimeoutMs, mustAnswer: true });
      await setGuestClock(started.agent, signal);
      return started;
    }
    const restored = await this.#restore(start, { ...how, mustAnswer: false });
    say('configure', 'configuring the guest');
    // Programs have read the kernel's boot id, which all copies share.
    const config = {
      ...guestConfigOf(vm, this.#deps.driver.capabilities),
      bootId: randomUUID(),
      handOverInit: false,
    };
    return await configureRestored(restored, config, signal);
  }

  async #restore(
    start: Start,
    how: Pick<MachineRestore, 'frozen' | 'mustAnswer' | 'beforeRun' | 'helloTimeoutMs'>,
  ): Promise<StartedMachine> {
    const { driver, log } = this.#deps;
    const { vm, facts, spec, files, undo, signal } = start;
    const rootDiskBytes = vm.spec.diskSizeBytes;
    const about = { driver, log, vmId: vm.id, spec, files, undo, signal };
    return await restoreMachine({ ...about, ...how, digests: facts.digests, rootDiskBytes });
  }

  async #coldStart(start: Start): Promise<StartedMachine> {
    const { driver, log } = this.#deps;
    const { vm, image, spec, files, undo, signal, say } = start;
    say('prepare_disk', 'preparing the disk');
    await beginLogs(files);
    if (!(await exists(files.rootDisk))) {
      await createRootDisk({
        basePath: image.record.rootfsPath,
        baseFormat: image.manifest.rootfs.format,
        path: files.rootDisk,
        format: rootDiskFormat(driver.capabilities),
        sizeBytes: vm.spec.diskSizeBytes,
        signal,
      });
    }
    const started = await startMachine({ driver, log, vmId: vm.id, spec, files, undo, signal, say });
    say('configure', 'configuring the guest');
    await started.agent.configure(
      guestConfigOf(vm, this.#deps.driver.capabilities),
      signal,
      CONFIGURE_TIMEOUT_MS,
    );
    return started;
  }
}

function specOf(
  capabilities: DriverCapabilities,
  vm: VmRecord,
  kernel: LocalKernel,
  platform: Platform,
  files: VmFiles,
  initramfsPath: string,
): MachineSpec {
  const { vcpus, memoryMib } = vm.spec;
  const network = networkFor(capabilities, networkOf(vm));
  const sizes = { platform, vcpus, memoryMib };
  return machineSpec({ capabilities, name: vm.name, ...sizes, kernel, initramfsPath, files, network });
}

function isFrozen(from: StartFrom): from is FrozenStart {
  return typeof from === 'object' && 'frozen' in from;
}

/** A machine that cannot be made the VM's must be gone before another is started in its place. */
async function orEnd<T>({ live }: StartedMachine, files: VmFiles, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await endWithHandles(live, files);
    throw error;
  }
}

async function endWithHandles(live: LiveVm, files: VmFiles): Promise<void> {
  await endMachine(live);
  await removeHandles(files);
}

/** Whether a boot may succeed where a template did not. */
function isWorthBooting(error: unknown): boolean {
  if (!(error instanceof BangerError)) return false;
  return !['cancelled', 'no_space', 'permission', 'dependency_missing'].includes(error.code);
}

async function makeVmDir(files: VmFiles, ships: boolean): Promise<void> {
  await mkdir(files.dir, { recursive: true, mode: 0o700 });
  // Copies of the VM, and snapshots, have the same file under other names.
  if (ships) await rm(files.transferDisk, { force: true });
  if (!(await exists(files.transferDisk))) await makeTransferDisk(files);
}

async function beginLogs(files: VmFiles): Promise<void> {
  await rm(files.consoleLog, { force: true });
  await rm(files.vmmLog, { force: true });
}

function networkOf({ id, guestIp, spec }: VmRecord): UserNetwork {
  return userNetworkOf({ id, guestIp, outbound: spec.nat });
}

function guestConfigOf(vm: VmRecord, capabilities: DriverCapabilities): ReturnType<typeof buildGuestConfig> {
  const network = networkFor(capabilities, networkOf(vm));
  return buildGuestConfig({
    vmId: vm.id,
    hostname: vm.name,
    network: network.kind === 'none' ? null : { ...network, prefixLength: 24 },
    authorizedKeys: [],
    handOverInit: vm.spec.init === 'systemd',
    rootDiskBytes: vm.spec.diskSizeBytes,
  });
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
}

async function exists(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
