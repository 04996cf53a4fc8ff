/** The floor: the same QEMU, kernel, initramfs and disk as a VM of ours, with nothing of the daemon around them. */

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRunner } from '../../src/host/runner.ts';
import { exitStatusOf } from '../../src/core/channel/close.ts';
import { STDERR, STDOUT } from '../../src/core/channel/frame.ts';
import { AgentClient } from '../../src/guest/agent-client.ts';
import { type Input, InputPump } from '../../src/guest/input-pump.ts';
import { createOverlay } from '../../src/images/disk.ts';
import { ensureInitramfs } from '../../src/images/initramfs.ts';
import { readImageManifest, readKernelManifest } from '../../src/images/manifests.ts';
import { createQemuDriver } from '../../src/vmm/qemu/driver.ts';
import type { Machine, MachineSpec, Platform, VmmDriver } from '../../src/vmm/driver.ts';
import { TRANSFER_DISK_BYTES } from '../../src/daemon/vm-files.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const BOOT_TIMEOUT_MS = 120_000;

export interface BareOptions {
  /** A state directory with a built image. */
  readonly stateDir: string;
  readonly platform: Platform;
  readonly vcpus: number;
  readonly memoryMib: number;
}

export class BareMachine {
  readonly dir: string;
  readonly machine: Machine;
  readonly agent: AgentClient;

  private constructor(dir: string, machine: Machine, agent: AgentClient) {
    this.dir = dir;
    this.machine = machine;
    this.agent = agent;
  }

  static async boot(options: BareOptions): Promise<BareMachine> {
    const dir = mkdtempSync(join(tmpdir(), 'bb-'));
    const machine = await bareDriver().launch(await bareSpec(dir, options), async () => undefined);
    return await BareMachine.connect(dir, machine);
  }

  /** @param dir holds the machine's files, and is removed with it */
  static async connect(dir: string, machine: Machine): Promise<BareMachine> {
    const signal = AbortSignal.timeout(BOOT_TIMEOUT_MS);
    const channel = await machine.connectChannel(signal);
    const agent = await AgentClient.connect(channel, { signal, timeoutMs: BOOT_TIMEOUT_MS });
    return new BareMachine(dir, machine, agent);
  }

  get transferDisk(): string {
    return join(this.dir, 'transfer.img');
  }

  /** Runs a program to its end; throws when it fails. Its output is thrown away and counted. */
  async run(argv: readonly string[], input?: Input): Promise<{ readonly outputBytes: number }> {
    const stream = this.agent.exec({ argv, stdin: input !== undefined });
    const pump = new InputPump(stream);
    let outputBytes = 0;
    stream.attach({
      data: ({ channel, payload }) => {
        outputBytes += payload.length;
        if (channel === STDOUT || channel === STDERR) stream.consumed(channel, payload.length);
      },
      eof: () => undefined,
      credit: () => pump.credit(),
      closed: () => pump.stop(),
    });
    if (input !== undefined) await pump.send(input);
    const result = await stream.result;
    if (exitStatusOf(result) !== 0) throw new Error(`${argv.join(' ')}: ${JSON.stringify(result)}`);
    return { outputBytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.agent.close();
    await this.machine.kill();
    this.machine.release();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** @param tscRateFile of a home whose frozen machines are to be restored: they were started with the rate in it */
export function bareDriver(tscRateFile?: string): VmmDriver {
  const tscToolPath = join(ROOT, 'build/guest/tsc-khz');
  return createQemuDriver({
    runner: createRunner(),
    tscToolPath,
    ...(tscRateFile !== undefined && { tscRateFile }),
  });
}

/**
 * A machine with new disks in `dir`.
 * @param makeRoot makes the root disk; left out: an empty overlay over the image
 */
export async function bareSpec(
  dir: string,
  options: BareOptions,
  makeRoot?: (path: string) => Promise<void>,
): Promise<MachineSpec> {
  const imageDir = join(options.stateDir, 'images', 'debian-bookworm');
  const image = await readImageManifest(imageDir);
  if (image === undefined) throw new Error(`no image in ${imageDir}`);
  const kernelDir = join(options.stateDir, 'kernels', image.kernelName);
  const kernel = await readKernelManifest(kernelDir);
  if (kernel === undefined) throw new Error(`no kernel in ${kernelDir}`);
  const { path: initramfsPath } = await ensureInitramfs({
    kernelDir,
    kernel,
    agentPath: join(ROOT, 'build', 'guest', 'banger-agent'),
    transport: options.platform.transport,
    cacheDir: join(options.stateDir, '..', 'cache', 'initramfs'),
  });
  const rootDisk = join(dir, 'root.qcow2');
  const overlay = {
    basePath: join(imageDir, image.rootfs.file),
    baseFormat: image.rootfs.format,
    overlayPath: rootDisk,
    sizeBytes: image.rootfs.virtualSizeBytes,
  };
  await (makeRoot === undefined ? createOverlay(overlay) : makeRoot(rootDisk));
  const transferDisk = join(dir, 'transfer.img');
  writeFileSync(transferDisk, '');
  truncateSync(transferDisk, TRANSFER_DISK_BYTES);
  return {
    name: 'bare',
    platform: options.platform,
    vcpus: options.vcpus,
    memoryMib: options.memoryMib,
    memory: { kind: 'anonymous' },
    kernelPath: join(kernelDir, kernel.vmlinux.file),
    initramfsPath,
    disks: [
      { id: 'root', path: rootDisk, format: 'qcow2', readOnly: false },
      { id: 'transfer', path: transferDisk, format: 'raw', readOnly: true },
    ],
    network: {
      kind: 'user',
      outbound: false,
      mac: '52:54:00:00:00:01',
      guestIp: '172.16.0.2',
      gatewayIp: '172.16.0.1',
      dnsIp: '172.16.0.254',
    },
    socketDir: dir,
    consoleLogPath: join(dir, 'console.log'),
    vmmLogPath: join(dir, 'vmm.log'),
  };
}
