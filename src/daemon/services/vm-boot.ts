/** From a row to a guest that answers: the named steps of a start, each with its undo. */

import { mkdir, open, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Progress } from '../../api/contract.ts';
import { BangerError } from '../../core/errors.ts';
import type { VmRecord, VmRuntime } from '../../core/model/vm.ts';
import { now } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { BangerPaths } from '../../host/paths.ts';
import { createOverlay } from '../../images/disk.ts';
import type { AgentClient } from '../../guest/agent-client.ts';
import { buildGuestConfig } from '../../guest/guest-config.ts';
import type { MachineNetwork, MachineSpec, Platform, VmmDriver } from '../../vmm/driver.ts';
import type { OperationHandle } from '../operations.ts';
import { withUndo } from '../undo.ts';
import { makeSocketDir, removeSocketDir, TRANSFER_DISK_BYTES, type VmFiles, vmFiles } from '../vm-files.ts';
import type { LocalImage } from './image-service.ts';
import type { LiveVm } from './live-vm.ts';
import { startMachine } from './machine-start.ts';
import type { PlatformService } from './platform-service.ts';

/** Work that runs beside the boot and is finished inside the guest once it answers (a workspace being shipped). */
export interface GuestErrand {
  /** Begins at once, while the machine boots. */
  readonly prepare: (files: VmFiles, signal: AbortSignal) => Promise<void>;
  /** Runs in the guest after `prepare`. */
  readonly finish: (agent: AgentClient, signal: AbortSignal) => Promise<void>;
}

export interface BootOutcome {
  readonly live: LiveVm;
  readonly runtime: VmRuntime;
}

export class VmBoot {
  readonly #paths: BangerPaths;
  readonly #driver: VmmDriver;
  readonly #platforms: PlatformService;
  readonly #log: Log;

  constructor(deps: {
    paths: BangerPaths;
    driver: VmmDriver;
    platforms: PlatformService;
    log: Log;
  }) {
    this.#paths = deps.paths;
    this.#driver = deps.driver;
    this.#platforms = deps.platforms;
    this.#log = deps.log;
  }

  /**
   * Boots a VM. When it throws, nothing of this start is left: no process, no socket; a disk that was there before stays.
   * @throws {BangerError} `vmm_failed`, `guest_failed`, `no_space`, `cancelled` …
   */
  async boot(
    vm: VmRecord,
    image: LocalImage,
    errand: GuestErrand | undefined,
    operation: OperationHandle,
  ): Promise<BootOutcome> {
    const files = vmFiles(this.#paths, vm.id);
    const say = (step: string, text: string): void => operation.progress({ step, text } satisfies Progress);
    const platform = await this.#platforms.platform(vm.spec.accel, image.kernel, operation);
    const spec = await this.machineSpec(vm, image, platform);
    return await withUndo(async (undo) => {
      say('prepare_disk', 'preparing the disk');
      await this.#prepareDisks(vm, image, files);
      throwIfCancelled(operation.signal);
      await undo.step(
        'sockets',
        () => makeSocketDir(files),
        () => removeSocketDir(files),
      );
      const begun = beginErrand(errand, files, operation.signal);
      const { signal } = begun;
      await undo.step(
        'errand',
        async () => undefined,
        async () => {
          begun.abort();
          await begun.prepared.catch(() => undefined);
        },
      );
      const { live, agent } = await begun.orItsFailure(
        (async () => {
          const started = await startMachine({
            driver: this.#driver,
            log: this.#log,
            vmId: vm.id,
            spec,
            files,
            undo,
            signal,
            say,
          });
          say('configure', 'configuring the guest');
          await started.agent.configure(this.#guestConfig(vm, spec.network), signal);
          if (errand !== undefined) {
            say('workspace', 'shipping the workspace');
            await begun.prepared;
            await errand.finish(started.agent, signal);
          }
          return started;
        })(),
      );
      throwIfCancelled(operation.signal);
      const runtime: VmRuntime = {
        accelerator: platform.accelerator,
        machine: platform.machine,
        bootId: agent.hello.bootId,
        startedAt: now(),
      };
      return { live, runtime };
    });
  }

  /** What a start of this VM means on this host's platform. */
  async machineSpec(vm: VmRecord, image: LocalImage, platform: Platform): Promise<MachineSpec> {
    const files = vmFiles(this.#paths, vm.id);
    return {
      name: vm.name,
      platform,
      vcpus: vm.spec.vcpus,
      memoryMib: vm.spec.memoryMib,
      memory: { kind: 'anonymous' },
      kernelPath: join(image.kernel.dir, image.kernel.manifest.vmlinux.file),
      initramfsPath: await this.#platforms.initramfs(image.kernel, platform.transport),
      disks: [
        { id: 'root', path: files.rootDisk, format: 'qcow2', readOnly: false },
        { id: 'transfer', path: files.transferDisk, format: 'raw', readOnly: true },
      ],
      network: userNetwork(vm),
      socketDir: files.socketDir,
      consoleLogPath: files.consoleLog,
      vmmLogPath: files.vmmLog,
    };
  }

  async #prepareDisks(vm: VmRecord, image: LocalImage, files: VmFiles): Promise<void> {
    await mkdir(files.dir, { recursive: true, mode: 0o700 });
    if (!(await exists(files.rootDisk))) {
      await createOverlay({
        basePath: image.record.rootfsPath,
        baseFormat: image.manifest.rootfs.format,
        overlayPath: files.rootDisk,
        sizeBytes: vm.spec.diskSizeBytes,
      });
    }
    if (!(await exists(files.transferDisk))) {
      await (await open(files.transferDisk, 'wx', 0o600)).close();
      await truncate(files.transferDisk, TRANSFER_DISK_BYTES);
    }
    await rm(files.consoleLog, { force: true });
    await rm(files.vmmLog, { force: true });
  }

  #guestConfig(vm: VmRecord, network: MachineNetwork): ReturnType<typeof buildGuestConfig> {
    return buildGuestConfig({
      hostname: vm.name,
      network: network.kind === 'user' ? { ...network, prefixLength: 24 } : null,
      authorizedKeys: [],
      handOverInit: vm.spec.init === 'systemd',
    });
  }
}

/** Each VM has a /24 of its own in user mode, so only the guest's own address matters for uniqueness. */
function userNetwork(vm: VmRecord): MachineNetwork {
  const octets = vm.guestIp.split('.');
  const prefix = octets.slice(0, 3).join('.');
  return {
    kind: 'user',
    outbound: vm.spec.nat,
    mac: `52:54:00:${vm.id.slice(0, 2)}:${vm.id.slice(2, 4)}:${vm.id.slice(4, 6)}`,
    guestIp: vm.guestIp,
    gatewayIp: `${prefix}.1`,
    dnsIp: octets[3] === '254' ? `${prefix}.253` : `${prefix}.254`,
  };
}

interface BegunErrand {
  /** Aborts with the operation, and when the errand's preparation fails: there is no use in booting on. */
  readonly signal: AbortSignal;
  readonly prepared: Promise<void>;
  readonly abort: () => void;
  /** Waits for work on that signal; when the preparation's failure ended it, throws that failure instead. */
  readonly orItsFailure: <T>(work: Promise<T>) => Promise<T>;
}

function beginErrand(errand: GuestErrand | undefined, files: VmFiles, outer: AbortSignal): BegunErrand {
  const own = new AbortController();
  const signal = AbortSignal.any([outer, own.signal]);
  const prepared = errand === undefined ? Promise.resolve() : errand.prepare(files, signal);
  let failure: unknown;
  prepared.catch((error: unknown) => {
    if (!signal.aborted) failure = error;
    own.abort();
  });
  const orItsFailure = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw failure ?? error;
    }
  };
  return { signal, prepared, abort: () => own.abort(), orItsFailure };
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
