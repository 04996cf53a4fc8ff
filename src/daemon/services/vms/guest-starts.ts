/** The kinds of start: from memory of its own, as the machine that waits, from a template, and the boot. */

import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { BangerError } from '../../../core/errors.ts';
import type { GitIdentity } from '../../../core/guestconfig/git-identity.ts';
import type { GuestConfig } from '../../../core/guestconfig/guest-config.ts';
import type { StartedFrom, VmRecord } from '../../../core/model/vm.ts';
import { type FrozenMachine, frozenPaths } from '../../../frozen/manifest.ts';
import { frozenTemplate, type Template } from '../../../frozen/template-store.ts';
import { buildGuestConfig } from '../../../guest/guest-config.ts';
import { isThere } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import { copyRootDisk, createRootDisk } from '../../../images/disk.ts';
import type { DriverCapabilities, MachineSpec, VmmDriver } from '../../../vmm/driver.ts';
import type { Undo } from '../../undo.ts';
import { removeHandles, type VmFiles } from '../../vm-files.ts';
import { networkFor, rootDiskFormat } from './driver-limits.ts';
import { configureCopy, setGuestClock } from '../guests/guest-clock.ts';
import { networkOf } from '../guests/guest-network.ts';
import type { HostGitIdentity } from '../guests/git-identity.ts';
import type { LocalImage } from '../images/image-service.ts';
import type { LiveVm } from './live-vm.ts';
import {
  CONFIGURE_TIMEOUT_MS,
  configureRestored,
  type MachineRestore,
  restoreMachine,
} from './machine-restore.ts';
import { endMachine, type StartedMachine, startMachine } from './machine-start.ts';
import type { StandbyMachine } from './standby.ts';
import type { TemplateFacts, TemplateWanted } from '../templates/template-keys.ts';
import type { TemplateService } from '../templates/template-service.ts';

/** A machine that stood still answers at once, or never. */
const STANDBY_TIMEOUT_MS = 5000;
/** Of a guest whose memory is lost when it is given up. */
const KEPT_HELLO_TIMEOUT_MS = 60_000;

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

export interface GuestStartsDeps {
  readonly driver: VmmDriver;
  readonly templates: TemplateService;
  readonly gitIdentity: HostGitIdentity;
  readonly log: Log;
}

export interface StartedGuest extends StartedMachine {
  readonly startedFrom: StartedFrom;
}

/** One start of one VM: what its steps share. */
export interface GuestStart {
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

export class GuestStarts {
  readonly #deps: GuestStartsDeps;

  constructor(deps: GuestStartsDeps) {
    this.#deps = deps;
  }

  /**
   * Starts the machine and makes it the VM's. A template that cannot be used, and a machine that waits and cannot, are made up
   * for by a boot.
   * @throws {BangerError} what a boot throws; with a frozen machine of its own, what its restoring throws
   */
  async start(start: GuestStart, from: StartFrom): Promise<StartedGuest> {
    if (isFrozen(from)) return { ...(await this.#goOn(start, from)), startedFrom: 'memory' };
    if (typeof from === 'object') {
      const started = await this.#useStandby(start, from.standby);
      if (started !== undefined) return { ...started, startedFrom: 'template' };
    }
    // The memory of a template goes with the disk of a template.
    if (from === 'boot' || (await isThere(start.files.rootDisk))) {
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
  async #useStandby(
    start: GuestStart,
    { live, markPath }: StandbyMachine,
  ): Promise<StartedMachine | undefined> {
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
          const config = await this.#configOf(vm);
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

  async #startFrom(template: Template, start: GuestStart): Promise<StartedMachine> {
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
    const started = await orEnd(restored, files, async () =>
      configureRestored(restored, await this.#configOf(vm), signal),
    );
    await this.#deps.templates.markUsed(template);
    return started;
  }

  /** There is nothing to fall back to: the memory is what the VM is. */
  async #goOn(start: GuestStart, from: FrozenStart): Promise<StartedMachine> {
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
    start: GuestStart,
    how: Pick<MachineRestore, 'frozen' | 'mustAnswer' | 'beforeRun' | 'helloTimeoutMs'>,
  ): Promise<StartedMachine> {
    const { driver, log } = this.#deps;
    const { vm, facts, spec, files, undo, signal } = start;
    const rootDiskBytes = vm.spec.diskSizeBytes;
    const about = { driver, log, vmId: vm.id, spec, files, undo, signal };
    return await restoreMachine({ ...about, ...how, digests: facts.digests, rootDiskBytes });
  }

  async #coldStart(start: GuestStart): Promise<StartedMachine> {
    const { driver, log } = this.#deps;
    const { vm, image, spec, files, undo, signal, say } = start;
    say('prepare_disk', 'preparing the disk');
    await beginLogs(files);
    if (!(await isThere(files.rootDisk))) {
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
    await started.agent.configure(await this.#configOf(vm), signal, CONFIGURE_TIMEOUT_MS);
    return started;
  }

  /** Of a guest with the agent of this version. Others may not know all of it, and have been told before. */
  async #configOf(vm: VmRecord): Promise<GuestConfig> {
    const gitIdentity = await this.#deps.gitIdentity.get();
    return guestConfigOf(vm, this.#deps.driver.capabilities, gitIdentity);
  }
}

export function isFrozen(from: StartFrom): from is FrozenStart {
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

async function beginLogs(files: VmFiles): Promise<void> {
  await rm(files.consoleLog, { force: true });
  await rm(files.vmmLog, { force: true });
}

function guestConfigOf(
  vm: VmRecord,
  capabilities: DriverCapabilities,
  gitIdentity?: GitIdentity,
): GuestConfig {
  const network = networkFor(capabilities, networkOf(vm));
  return buildGuestConfig({
    vmId: vm.id,
    hostname: vm.name,
    network: network.kind === 'none' ? null : { ...network, prefixLength: 24 },
    authorizedKeys: [],
    handOverInit: vm.spec.init === 'systemd',
    rootDiskBytes: vm.spec.diskSizeBytes,
    gitIdentity,
  });
}
