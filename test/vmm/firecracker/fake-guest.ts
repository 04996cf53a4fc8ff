/** What runs in the place of Firecracker's guest: the same kernel, initramfs and disks, in QEMU without KVM. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AGENT_PORT } from '../../../src/vmm/firecracker/config.ts';
import { createRunner } from '../../../src/host/runner.ts';
import type { Machine, MachineSpec, VmmDriver } from '../../../src/vmm/driver.ts';
import { createQemuDriver } from '../../../src/vmm/qemu/driver.ts';
import { QemuMachine } from '../../../src/vmm/qemu/machine.ts';
import { Fault } from './api-schema.ts';
import { VsockBridge } from './vsock-bridge.ts';

export interface Configuration {
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly kernelPath: string;
  readonly initramfsPath: string;
  readonly bootArgs: string;
  readonly drives: readonly Drive[];
  /** As it was given: relative to the process's directory. */
  readonly vsockPath: string | undefined;
}

export interface Drive {
  readonly id: string;
  readonly path: string;
  readonly readOnly: boolean;
}

const TSC_TOOL = join(import.meta.dirname, '..', '..', '..', 'build', 'guest', 'tsc-khz');
const DIGESTS = { kernel: '', initramfs: '' };
const REFUSALS_AT_BOOT = 2;
const MIB = 1024 * 1024;
const SCRATCH = 'q';

const never = new AbortController().signal;

export class FakeGuest {
  readonly configuration: Configuration;
  readonly #machine: Promise<Machine>;
  readonly #goOn: () => void;
  #bridge: VsockBridge | undefined;
  /** Sizes of disks that are told to the guest once it goes on. */
  readonly #grown: string[] = [];
  #held: boolean;

  private constructor(configuration: Configuration, machine: Promise<Machine>, goOn?: () => void) {
    this.configuration = configuration;
    this.#machine = machine;
    this.#held = goOn !== undefined;
    this.#goOn = goOn ?? (() => {});
  }

  static async boot(configuration: Configuration): Promise<FakeGuest> {
    const spec = await specOf(configuration);
    const machine = await newDriver().launch(spec, async () => {});
    return await new FakeGuest(configuration, Promise.resolve(machine)).#listen(REFUSALS_AT_BOOT);
  }

  /** Loaded, and standing still until `resume`. @throws {Fault} */
  static async load(statePath: string, memoryPath: string): Promise<FakeGuest> {
    const { configuration, state } = await unpack(statePath);
    for (const { path } of configuration.drives) checkDisk(path);
    const spec = await specOf(configuration);
    const size = statSync(memoryPath, { throwIfNoEntry: false })?.size;
    if (size !== configuration.memoryMib * MIB) throw new Fault(`the memory file has ${size} bytes`);
    const path = join(SCRATCH, 'state');
    await writeFile(path, state);
    const frozen = { path: realpathSync(path), sizeBytes: state.length, sha256: sha256(state) };
    const driver = newDriver();
    const shape = await driver.shape(spec, DIGESTS, never);
    const loaded = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const beforeRun = async (): Promise<void> => {
      loaded.resolve();
      await goOn.promise;
    };
    const options = { state: frozen, shape, digests: DIGESTS, signal: never, beforeRun };
    const memory = { kind: 'file', path: realpathSync(memoryPath) } as const;
    const machine = driver.restore({ ...spec, memory }, options, async () => {});
    await Promise.race([loaded.promise, machine]);
    return await new FakeGuest(configuration, machine, goOn.resolve).#listen(0);
  }

  /** Settles when the guest has ended, however. */
  get exited(): Promise<unknown> {
    return this.#machine.then((machine) => machine.exited);
  }

  async pause(): Promise<void> {
    if (!this.#held) await (await this.#machine).pause();
  }

  async resume(): Promise<void> {
    if (!this.#held) return await (await this.#machine).resume();
    this.#held = false;
    this.#goOn();
    await this.#machine;
    for (const id of this.#grown) await this.diskChanged(id);
  }

  /** @throws {Fault} */
  async diskChanged(id: string): Promise<void> {
    const index = this.configuration.drives.findIndex((drive) => drive.id === id);
    const drive = this.configuration.drives[index];
    if (drive === undefined) throw new Fault(`Invalid block device ID: ${id}`);
    checkDisk(drive.path);
    if (this.#held) {
      this.#grown.push(id);
      return;
    }
    const machine = await this.#machine;
    if (!(machine instanceof QemuMachine)) throw new Error('a machine of QEMU');
    const { size } = await stat(drive.path);
    await machine.withControl(never, (qmp) =>
      qmp.execute('block_resize', { 'node-name': `disk${index}`, size }),
    );
  }

  /** Writes into the files that are there, and hangs up on every connection. */
  async save(statePath: string, memoryPath: string): Promise<void> {
    if (this.#held) throw new Fault('the model cannot save what has not run');
    const paths = ['saved-state', 'saved-memory'].map((name) => join(realpathSync(SCRATCH), name));
    const [ownState, ownMemory] = paths as [string, string];
    const machine = await this.#machine;
    await machine.save({ statePath: ownState, memoryPath: ownMemory, durable: false, signal: never });
    this.#bridge?.reset();
    await copyInto(ownMemory, memoryPath);
    await writeFile(statePath, Buffer.concat([header(this.configuration), await readFile(ownState)]));
    for (const path of paths) await rm(path);
  }

  async #listen(refusals: number): Promise<this> {
    const { vsockPath } = this.configuration;
    if (vsockPath === undefined) return this;
    const connect = async () => await (await this.#machine).connectChannel(never);
    this.#bridge = await VsockBridge.listen(vsockPath, { port: AGENT_PORT, connect, refusals }).catch(
      (error: Error) => {
        throw new Fault(`Error binding to the host-side Unix socket: ${error.message}`);
      },
    );
    return this;
  }
}

/** @throws {Fault} */
export function checkDisk(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isFile() !== true) throw new Fault(`Error manipulating the backing file: ${path}`);
}

async function specOf(configuration: Configuration): Promise<MachineSpec> {
  const { vcpus, memoryMib, kernelPath, initramfsPath, drives, bootArgs } = configuration;
  await mkdir(SCRATCH, { recursive: true, mode: 0o700 });
  const socketDir = realpathSync(SCRATCH);
  await writeFile(join(socketDir, 'qemu'), launcher(bootArgs), { mode: 0o700 });
  return {
    name: 'guest of a model of Firecracker',
    platform: { accelerator: 'tcg', machine: 'microvm', transport: 'mmio', vmmVersion: '' },
    vcpus,
    memoryMib,
    memory: { kind: 'anonymous' },
    kernelPath,
    initramfsPath,
    disks: drives.map(({ path, readOnly }, index) => {
      return { id: `disk${index}`, path: realpathSync(path), format: 'raw', readOnly };
    }),
    network: { kind: 'none' },
    socketDir,
    consoleLogPath: readlinkSync('/proc/self/fd/1'),
    vmmLogPath: join(socketDir, 'qemu.log'),
  };
}

/**
 * QEMU ends with the process that stands for Firecracker, however that ends, and its kernel gets the words that Firecracker
 * was given, with those that the emulation needs beside.
 */
function launcher(bootArgs: string): string {
  // QEMU's microvm has no keyboard controller that could reset it: the kernel would look for one for a second.
  const words = bootArgs.replace(/\breboot=k\b/, 'reboot=t');
  return `#!/bin/sh
boot='${words.replaceAll("'", `'\\''`)}'
left=$#
while [ $left -gt 0 ]; do
  word=$1; shift
  next=$word
  if [ "$before" = -append ]; then
    for own in $word; do case $own in norandmaps|no_timer_check|tsc=*|tsc_early_khz=*) boot="$boot $own";; esac; done
    next=$boot
  fi
  before=$word
  set -- "$@" "$next"
  left=$((left - 1))
done
exec setpriv --pdeathsig KILL -- qemu-system-x86_64 "$@"
`;
}

function newDriver(): VmmDriver {
  const qemuPath = join(realpathSync(SCRATCH), 'qemu');
  return createQemuDriver({ runner: createRunner(), tscToolPath: TSC_TOOL, qemuPath });
}

function header(configuration: Configuration): Buffer {
  return Buffer.from(`${JSON.stringify(configuration)}\n`);
}

async function unpack(path: string): Promise<{ configuration: Configuration; state: Buffer }> {
  // A descriptor that was handed over is read from its beginning.
  const bytes = await readFile(path).catch((error: Error) => {
    throw new Fault(`Failed to open the snapshot file: ${error.message}`);
  });
  const end = bytes.indexOf('\n');
  try {
    const configuration = JSON.parse(bytes.toString('utf8', 0, end)) as Configuration;
    return { configuration, state: bytes.subarray(end + 1) };
  } catch {
    throw new Fault('Failed to restore from snapshot: invalid snapshot file');
  }
}

/** Into the file that is there. */
async function copyInto(from: string, to: string): Promise<void> {
  await promisify(execFile)('cp', ['--sparse=auto', '--', from, to]);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Whether a file can be read now: what Firecracker opens when it is told of it. @throws {Fault} */
export function checkReadable(path: string): void {
  try {
    closeSync(openSync(path, 'r'));
  } catch (error) {
    throw new Fault(`The file cannot be opened: ${(error as Error).message}`);
  }
}
