/** QEMU behind the driver port: rootless, with KVM or software emulation. */

import { open, readlink, rm } from 'node:fs/promises';
import { fileError } from '../../host/files.ts';
import { type Log, NO_LOG } from '../../host/log.ts';
import { assertSocketPath } from '../../host/paths.ts';
import type { CommandRunner } from '../../host/runner.ts';
import type {
  DriverCapabilities,
  Machine,
  MachineHandles,
  MachineSpec,
  ProbeOptions,
  ProbeResult,
  VmmDriver,
} from '../driver.ts';
import { machineArgv, needsTscRate, socketPaths } from './config.ts';
import { QemuMachine } from './machine.ts';
import { probe } from './probe.ts';
import { VmmProcess } from './process.ts';
import { inspectQemu } from './program.ts';
import { readTscKhz } from './tsc.ts';

export interface QemuDriverOptions {
  readonly runner: CommandRunner;
  /** Looked up in PATH unless absolute. Default `qemu-system-x86_64`. */
  readonly qemuPath?: string;
  /** Prints the exact rate of the host's TSC in kHz, or fails. */
  readonly tscToolPath: string;
  readonly log?: Log;
}

const CAPABILITIES: DriverCapabilities = {
  transports: ['mmio', 'pci'],
  diskFormats: ['raw', 'qcow2'],
  networks: ['none', 'user', 'tap'],
  rootless: true,
  canPause: true,
};

export function createQemuDriver(options: QemuDriverOptions): VmmDriver {
  return new QemuDriver(options);
}

class QemuDriver implements VmmDriver {
  readonly name = 'qemu';
  readonly capabilities = CAPABILITIES;
  readonly #runner: CommandRunner;
  readonly #qemuPath: string;
  readonly #tscToolPath: string;
  readonly #log: Log;
  #tscKhz: Promise<number | undefined> | undefined;

  constructor(options: QemuDriverOptions) {
    this.#runner = options.runner;
    this.#qemuPath = options.qemuPath ?? 'qemu-system-x86_64';
    this.#tscToolPath = options.tscToolPath;
    this.#log = options.log ?? NO_LOG;
  }

  async probe(options: ProbeOptions): Promise<ProbeResult> {
    const ports = {
      inspect: (signal: AbortSignal) => inspectQemu(this.#runner, this.#qemuPath, signal),
      launch: this.launch.bind(this),
      tscKhz: () => this.#knownTscKhz(),
      kvmPath: '/dev/kvm',
    };
    return await probe(ports, options);
  }

  async argv(spec: MachineSpec): Promise<readonly [string, ...string[]]> {
    const tscKhz = needsTscRate(spec.platform) ? await this.#knownTscKhz() : undefined;
    return machineArgv(this.#qemuPath, spec, tscKhz);
  }

  async launch(spec: MachineSpec, onSpawn: (handles: MachineHandles) => Promise<void>): Promise<Machine> {
    const argv = await this.argv(spec);
    const sockets = socketPaths(spec.socketDir);
    for (const path of [sockets.control, sockets.channel]) {
      assertSocketPath(path);
      // A stale one must not be taken for the new machine's.
      await rm(path, { force: true });
    }
    await makePrivateFile(spec.consoleLogPath);
    const vmm = await VmmProcess.spawn(argv, { logPath: spec.vmmLogPath });
    try {
      const handles = {
        driver: this.name,
        ...vmm.identity,
        controlSocketPath: sockets.control,
        channelSocketPath: sockets.channel,
        argv,
      } satisfies MachineHandles;
      await onSpawn(handles);
      if (vmm.exit !== undefined) throw await vmm.deathError();
      return new QemuMachine(handles, vmm, { log: this.#log, isUp: false });
    } catch (error) {
      await vmm.kill();
      vmm.release();
      throw error;
    }
  }

  async adopt(handles: MachineHandles): Promise<Machine | undefined> {
    if (handles.driver !== this.name) return undefined;
    const vmm = VmmProcess.adopt(handles, await logOf(handles.pid));
    return vmm === undefined ? undefined : new QemuMachine(handles, vmm, { log: this.#log, isUp: true });
  }

  /** The same for the life of this process: the counter's rate does not change while the host is up. */
  async #knownTscKhz(): Promise<number | undefined> {
    this.#tscKhz ??= readTscKhz(this.#runner, this.#tscToolPath, this.#log);
    return await this.#tscKhz;
  }
}

/** Where the process writes its stderr: proc(5), /proc/pid/fd. Only for messages. */
async function logOf(pid: number): Promise<string> {
  return await readlink(`/proc/${pid}/fd/2`).catch(() => '');
}

/** QEMU would make it readable for others. */
async function makePrivateFile(path: string): Promise<void> {
  try {
    await (await open(path, 'a', 0o600)).close();
  } catch (error) {
    throw fileError(`cannot write ${path}`, error);
  }
}
