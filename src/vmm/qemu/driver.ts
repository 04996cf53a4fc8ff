/** QEMU behind the driver port: rootless, with KVM or software emulation. */

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
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
  RestoreOptions,
  ShapeDigests,
  VmmDriver,
} from '../driver.ts';
import { assertSameShape, checkMemoryFile, openVerified } from '../frozen-files.ts';
import { describeHostCpu } from '../host-cpu.ts';
import { logOf, makePrivateFile, VmmProcess } from '../process.ts';
import { identifyFile, readVersionLine } from '../program-file.ts';
import type { MachineShape } from '../shape.ts';
import { withinSignal } from '../waits.ts';
import { machineArgv, needsTscRate, socketPaths } from './config.ts';
import { QemuMachine } from './machine.ts';
import { probe } from './probe.ts';
import { inspectQemu, QEMU } from './program.ts';
import { goOn, INCOMING_ARGV, RESTORE_TIMEOUT_MS } from './restore.ts';
import { qemuShape } from './shape.ts';
import { readTscKhz, steadyTscKhz } from './tsc.ts';

export interface QemuDriverOptions {
  readonly runner: CommandRunner;
  /** Looked up in PATH unless absolute. Default `qemu-system-x86_64`. */
  readonly qemuPath?: string;
  /** Prints the exact rate of the host's TSC in kHz, or fails. */
  readonly tscToolPath: string;
  /** Where that rate is kept between processes and starts of the host. Left out: measured by each. */
  readonly tscRateFile?: string;
  readonly log?: Log;
}

const CAPABILITIES: DriverCapabilities = {
  transports: ['mmio', 'pci'],
  channel: 'console',
  diskFormats: ['raw', 'qcow2'],
  networks: ['none', 'unplugged', 'user', 'tap'],
  rootless: true,
  canPause: true,
  canSave: true,
  savingKeepsChannel: true,
  canRestorePrivately: true,
};

export function createQemuDriver(options: QemuDriverOptions): VmmDriver {
  return new QemuDriver(options);
}

class QemuDriver implements VmmDriver {
  readonly name = 'qemu';
  readonly capabilities = CAPABILITIES;
  readonly #options: QemuDriverOptions;
  readonly #runner: CommandRunner;
  readonly #qemuPath: string;
  readonly #tscToolPath: string;
  readonly #log: Log;
  #tscKhz: Promise<number | undefined> | undefined;
  /** What the program's file said of itself when it last looked like that. */
  #program: { readonly file: string; readonly versionLine: string } | undefined;

  constructor(options: QemuDriverOptions) {
    this.#options = options;
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
    assert(spec.memory.kind === 'anonymous', 'a memory file is for restored machines');
    return await this.#start(spec, await this.argv(spec), onSpawn);
  }

  async shape(spec: MachineSpec, digests: ShapeDigests, signal: AbortSignal): Promise<MachineShape> {
    const tscKhz = needsTscRate(spec.platform) ? await this.#knownTscKhz() : undefined;
    const { file, versionLine } = await this.#identify(signal);
    const hostCpu = spec.platform.accelerator === 'kvm' ? await describeHostCpu() : '';
    return qemuShape(spec, { vmm: versionLine, program: file, digests, tscKhz, hostCpu });
  }

  async restore(
    spec: MachineSpec,
    options: RestoreOptions,
    onSpawn: (handles: MachineHandles) => Promise<void>,
  ): Promise<Machine> {
    const { memory } = spec;
    assert(memory.kind === 'file', 'a restored machine has a memory file');
    const grownDisks = options.grownDisks ?? [];
    for (const { id } of grownDisks) {
      assert(
        spec.disks.some((disk) => disk.id === id),
        `a disk "${id}"`,
      );
    }
    assertSameShape(options.shape, await this.shape(spec, options.digests, options.signal));
    await checkMemoryFile(memory.path, spec.memoryMib);
    await using state = await openVerified(options.state);
    const argv = [...(await this.argv(spec)), ...INCOMING_ARGV] as const;
    throwIfCancelled(options.signal);
    const machine = await this.#start(spec, argv, onSpawn, state.fd);
    try {
      const late = AbortSignal.timeout(RESTORE_TIMEOUT_MS);
      const over = AbortSignal.any([options.signal, late]);
      await withinSignal(
        machine.withControl(over, async (qmp) => {
          await machine.connectAhead();
          await goOn(qmp, spec, options, over);
        }),
        over,
        () =>
          options.signal.aborted
            ? cancelled()
            : new BangerError('timeout', `QEMU did not load its state within ${RESTORE_TIMEOUT_MS} ms`),
      );
      return machine;
    } catch (error) {
      await machine.kill();
      machine.release();
      throw error;
    }
  }

  async #start(
    spec: MachineSpec,
    argv: readonly [string, ...string[]],
    onSpawn: (handles: MachineHandles) => Promise<void>,
    inheritFd?: number,
  ): Promise<QemuMachine> {
    const sockets = socketPaths(spec.socketDir);
    for (const path of [sockets.control, sockets.channel]) {
      assertSocketPath(path);
      // A stale one must not be taken for the new machine's.
      await rm(path, { force: true });
    }
    await makePrivateFile(spec.consoleLogPath);
    const logPath = spec.vmmLogPath;
    const vmm = await VmmProcess.spawn(argv, {
      program: QEMU,
      logPath,
      ...(inheritFd === undefined ? {} : { inheritFd }),
    });
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
    const logPaths = [await logOf(handles.pid)];
    const vmm = VmmProcess.adopt(handles, { title: QEMU.title, logPaths });
    return vmm === undefined ? undefined : new QemuMachine(handles, vmm, { log: this.#log, isUp: true });
  }

  /** The same for the life of this process: the counter's rate does not change while the host is up. */
  async #knownTscKhz(): Promise<number | undefined> {
    const { tscRateFile } = this.#options;
    this.#tscKhz ??=
      tscRateFile === undefined
        ? readTscKhz(this.#runner, this.#tscToolPath, this.#log)
        : steadyTscKhz(this.#runner, this.#tscToolPath, tscRateFile, this.#log);
    return await this.#tscKhz;
  }

  async #identify(signal: AbortSignal): Promise<{ readonly file: string; readonly versionLine: string }> {
    const file = await identifyFile(QEMU, this.#qemuPath);
    if (this.#program?.file !== file) {
      this.#program = {
        file,
        versionLine: await readVersionLine(this.#runner, QEMU, this.#qemuPath, signal),
      };
    }
    return this.#program;
  }
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw cancelled();
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'restoring the machine was cancelled');
}
