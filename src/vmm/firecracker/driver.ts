/** Firecracker behind the driver port: rootless, without its jailer; KVM only. */

import assert from 'node:assert/strict';
import { rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError } from '../../core/errors.ts';
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
import { bootRequests, diskName, machineArgv, machinePaths, OWN_LOG } from './config.ts';
import { FirecrackerMachine } from './machine.ts';
import { probe } from './probe.ts';
import { assertUsable, FIRECRACKER, FIRECRACKER_PROGRAM, inspectFirecracker } from './program.ts';
import { goOn, RESTORE_TIMEOUT_MS } from './restore.ts';
import { firecrackerShape } from './shape.ts';

export interface FirecrackerDriverOptions {
  readonly runner: CommandRunner;
  /** Looked up in PATH unless absolute. Default `firecracker`. */
  readonly firecrackerPath?: string;
  readonly log?: Log;
}

const CAPABILITIES: DriverCapabilities = {
  transports: ['mmio'],
  channel: 'vsock',
  diskFormats: ['raw'],
  // A tap device takes root to make.
  networks: ['none'],
  rootless: true,
  canPause: true,
  canSave: true,
  savingKeepsChannel: false,
  canRestorePrivately: true,
};

/** From the first request to the start of the guest. */
const START_TIMEOUT_MS = 30_000;
/** A machine that was started answers at once. */
const ADOPT_TIMEOUT_MS = 2000;

/** What the program's file said of itself when it last looked like that. */
interface KnownProgram {
  readonly file: string;
  readonly versionLine: string;
}

export function createFirecrackerDriver(options: FirecrackerDriverOptions): VmmDriver {
  return new FirecrackerDriver(options);
}

class FirecrackerDriver implements VmmDriver {
  readonly name = 'firecracker';
  readonly capabilities = CAPABILITIES;
  readonly #runner: CommandRunner;
  readonly #path: string;
  readonly #log: Log;
  #program: KnownProgram | undefined;

  constructor({ runner, firecrackerPath = FIRECRACKER_PROGRAM, log = NO_LOG }: FirecrackerDriverOptions) {
    this.#runner = runner;
    this.#path = firecrackerPath;
    this.#log = log;
  }

  async probe(options: ProbeOptions): Promise<ProbeResult> {
    const inspect = async (signal: AbortSignal): Promise<string> =>
      await inspectFirecracker(this.#runner, this.#path, signal);
    return await probe({ inspect, launch: this.launch.bind(this) }, options);
  }

  async argv(spec: MachineSpec): Promise<readonly [string, ...string[]]> {
    return machineArgv(this.#path, spec);
  }

  async launch(spec: MachineSpec, onSpawn: (handles: MachineHandles) => Promise<void>): Promise<Machine> {
    assert(spec.memory.kind === 'anonymous', 'a memory file is for restored machines');
    const requests = bootRequests(spec);
    const late = AbortSignal.timeout(START_TIMEOUT_MS);
    const machine = await this.#start(spec, onSpawn, {});
    return await orEnd(machine, async () => {
      assertUsable(await machine.up(late));
      for (const request of requests) await machine.call(request);
    });
  }

  async shape(spec: MachineSpec, digests: ShapeDigests, signal: AbortSignal): Promise<MachineShape> {
    const { file, versionLine } = await this.#identify(signal);
    const hostCpu = await describeHostCpu();
    return firecrackerShape(spec, { vmm: versionLine, program: file, digests, hostCpu });
  }

  async restore(
    spec: MachineSpec,
    options: RestoreOptions,
    onSpawn: (handles: MachineHandles) => Promise<void>,
  ): Promise<Machine> {
    const { memory } = spec;
    assert(memory.kind === 'file', 'a restored machine has a memory file');
    for (const { id } of options.grownDisks ?? []) {
      assert(
        spec.disks.some((disk) => disk.id === id),
        `a disk "${id}"`,
      );
    }
    if (options.signal.aborted) throw cancelled();
    assertSameShape(options.shape, await this.shape(spec, options.digests, options.signal));
    await checkMemoryFile(memory.path, spec.memoryMib);
    await using state = await openVerified(options.state);
    if (options.signal.aborted) throw cancelled();
    const machine = await this.#start(spec, onSpawn, { inheritFd: state.fd, memoryPath: memory.path });
    const late = AbortSignal.timeout(RESTORE_TIMEOUT_MS);
    const over = AbortSignal.any([options.signal, late]);
    return await orEnd(machine, async () => {
      const restoring = (async () => {
        assertUsable(await machine.up(over));
        await goOn((request, limits) => machine.call(request, limits), memory.path, options, over);
      })();
      await withinSignal(restoring, over, () => (options.signal.aborted ? cancelled() : tooLate()));
    });
  }

  async adopt(handles: MachineHandles): Promise<Machine | undefined> {
    if (handles.driver !== this.name) return undefined;
    const ownLog = join(dirname(handles.controlSocketPath), OWN_LOG);
    const logPaths = [await logOf(handles.pid), ownLog];
    const vmm = VmmProcess.adopt(handles, { title: FIRECRACKER.title, logPaths });
    if (vmm === undefined) return undefined;
    const machine = new FirecrackerMachine(handles, vmm, { log: this.#log });
    // One that does not answer may be busy; one that was never started never will be.
    const state = await machine.instanceState({ timeoutMs: ADOPT_TIMEOUT_MS }).catch(() => undefined);
    if (state !== 'Not started') return machine;
    await machine.kill();
    machine.release();
    return undefined;
  }

  async #identify(signal: AbortSignal): Promise<KnownProgram> {
    const file = await identifyFile(FIRECRACKER, this.#path);
    if (this.#program?.file !== file) {
      const versionLine = await readVersionLine(this.#runner, FIRECRACKER, this.#path, signal);
      this.#program = { file, versionLine };
    }
    return this.#program;
  }

  async #start(
    spec: MachineSpec,
    onSpawn: (handles: MachineHandles) => Promise<void>,
    { inheritFd, memoryPath }: { readonly inheritFd?: number; readonly memoryPath?: string },
  ): Promise<FirecrackerMachine> {
    const argv = await this.argv(spec);
    const { control, channel, ownLog } = machinePaths(spec.socketDir);
    await makeReady(spec);
    const vmm = await VmmProcess.spawn(argv, {
      program: FIRECRACKER,
      logPath: spec.vmmLogPath,
      stdoutPath: spec.consoleLogPath,
      ownLogPath: ownLog,
      cwd: spec.socketDir,
      ...(inheritFd === undefined ? {} : { inheritFd }),
    });
    try {
      const handles = {
        driver: this.name,
        ...vmm.identity,
        controlSocketPath: control,
        channelSocketPath: channel,
        argv,
      } satisfies MachineHandles;
      await onSpawn(handles);
      if (vmm.exit !== undefined) throw await vmm.deathError();
      const options = { log: this.#log, ...(memoryPath === undefined ? {} : { memoryPath }) };
      return new FirecrackerMachine(handles, vmm, options);
    } catch (error) {
      await vmm.kill();
      vmm.release();
      throw error;
    }
  }
}

/** The process's directory as it expects it: nothing of an earlier one, and its disks under their names. */
async function makeReady({ socketDir, disks }: MachineSpec): Promise<void> {
  const { control, channel, ownLog } = machinePaths(socketDir);
  for (const path of [control, channel]) assertSocketPath(path);
  // It makes its sockets anew, and refuses to where there are some.
  for (const path of [control, channel, ownLog]) await rm(path, { force: true });
  await makePrivateFile(ownLog);
  for (const { id, path } of disks) {
    const name = join(socketDir, diskName(id));
    await rm(name, { force: true });
    await symlink(path, name).catch((error: unknown) => {
      throw fileError(`cannot link ${name} to ${path}`, error);
    });
  }
}

async function orEnd(machine: FirecrackerMachine, work: () => Promise<void>): Promise<FirecrackerMachine> {
  try {
    await work();
    return machine;
  } catch (error) {
    await machine.kill();
    machine.release();
    throw error;
  }
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'restoring the machine was cancelled');
}

function tooLate(): BangerError {
  return new BangerError('timeout', `Firecracker did not load its state within ${RESTORE_TIMEOUT_MS} ms`);
}
