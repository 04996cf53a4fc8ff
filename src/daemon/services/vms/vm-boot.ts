/** From a row to a guest that answers: the named steps of a start, each with its undo. */

import { mkdir, rm, stat } from 'node:fs/promises';
import type { Progress } from '../../../api/contract.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord, VmRuntime } from '../../../core/model/vm.ts';
import { isOnTransferDisk } from '../../../core/model/workspace.ts';
import { now } from '../../../host/clock.ts';
import { isErrno } from '../../../host/drafts.ts';
import { fileError } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { DriverCapabilities, MachineSpec, Platform, VmmDriver } from '../../../vmm/driver.ts';
import type { OperationHandle } from '../../operations.ts';
import { withUndo } from '../../undo.ts';
import { makeSocketDir, makeTransferDisk, removeSocketDir, type VmFiles, vmFiles } from '../../vm-files.ts';
import { assertMadeFor, networkFor } from './driver-limits.ts';
import type { FileSync } from '../guests/file-sync.ts';
import type { HostGitIdentity } from '../guests/git-identity.ts';
import { beginErrand, type GuestErrand } from '../guests/guest-errand.ts';
import { networkOf } from '../guests/guest-network.ts';
import { GuestStarts, isFrozen, type StartFrom } from './guest-starts.ts';
import type { LocalImage } from '../images/image-service.ts';
import type { LocalKernel } from '../images/kernel-service.ts';
import type { LiveVm } from './live-vm.ts';
import { writeMachineFacts } from './machine-facts.ts';
import { machineSpec } from './machine-spec.ts';
import type { PlatformService } from '../images/platform-service.ts';
import { dropSavedMemory } from './saved-memory.ts';
import type { TemplateKeys } from '../templates/template-keys.ts';
import type { TemplateService } from '../templates/template-service.ts';

export interface BootOutcome {
  readonly live: LiveVm;
  readonly runtime: VmRuntime;
}

export interface VmBootDeps {
  readonly paths: BangerPaths;
  readonly driver: VmmDriver;
  readonly platforms: PlatformService;
  readonly keys: TemplateKeys;
  readonly templates: TemplateService;
  readonly gitIdentity: HostGitIdentity;
  readonly fileSync: FileSync;
  readonly log: Log;
}

export class VmBoot {
  readonly #deps: VmBootDeps;
  readonly #starts: GuestStarts;

  constructor(deps: VmBootDeps) {
    this.#deps = deps;
    this.#starts = new GuestStarts(deps);
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
      await makeVmDir(files, transferDiskFor(vm, errand, from));
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
          const started = await this.#starts.start(start, from);
          if (errand !== undefined) {
            say('workspace', 'shipping the workspace');
            await begun.prepared;
            await errand.finish(started.agent, begun.signal);
          }
          await this.#deps.fileSync.write(started.agent, { ...operation, signal: begun.signal });
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

/** Copies of the VM, and snapshots, may have the same file under other names: `own` is one that they have not. */
type TransferDisk = 'new' | 'own' | 'any';

function transferDiskFor(
  { workspace }: VmRecord,
  errand: GuestErrand | undefined,
  from: StartFrom,
): TransferDisk {
  // A machine that waits has its disk open already, and nobody else has it; a frozen one knows the disk that goes with it.
  const opensAnew = typeof from === 'string';
  if (errand?.ships === true) return opensAnew || isFrozen(from) ? 'new' : 'any';
  return opensAnew && !isOnTransferDisk(workspace) ? 'own' : 'any';
}

async function makeVmDir(files: VmFiles, disk: TransferDisk): Promise<void> {
  await mkdir(files.dir, { recursive: true, mode: 0o700 });
  const found = await stat(files.transferDisk).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw fileError(`cannot look at ${files.transferDisk}`, error);
  });
  const keeps = disk === 'any' || (disk === 'own' && found?.nlink === 1);
  if (found !== undefined && keeps) return;
  await rm(files.transferDisk, { force: true });
  await makeTransferDisk(files);
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
}
