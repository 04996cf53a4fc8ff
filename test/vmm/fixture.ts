/** What a real boot needs: the kernel and agent that the build made, a root disk of a few directories, and a place to work. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AgentClient } from '../../src/guest/agent-client.ts';
import { createRunner } from '../../src/host/runner.ts';
import { ensureInitramfs } from '../../src/images/initramfs.ts';
import { readKernelManifest } from '../../src/images/manifests.ts';
import type { Channel, Machine, MachineSpec, Platform, Transport, VmmDriver } from '../../src/vmm/driver.ts';
import { createQemuDriver } from '../../src/vmm/qemu/driver.ts';

export const run = promisify(execFile);

const GUEST_BUILD = join(import.meta.dirname, '..', '..', 'build', 'guest');
const HELLO_TIMEOUT_MS = 60_000;
const ROOT_DIRECTORIES = ['dev', 'proc', 'sys', 'run', 'tmp', 'etc', 'root', 'repo', 'var', 'bin'];

export const TSC_TOOL = artifact(join(GUEST_BUILD, 'tsc-khz'));

export interface Workshop extends AsyncDisposable {
  readonly dir: string;
  readonly kernelPath: string;
  readonly initramfsFor: (transport: Transport) => Promise<string>;
  /** A small ext4 file system with the directories every root has, in a raw file. */
  makeRootDisk(path: string): Promise<void>;
}

export function newDriver(): VmmDriver {
  return createQemuDriver({ runner: createRunner(), tscToolPath: TSC_TOOL });
}

/** The platforms that need nothing of the host but QEMU. */
export const EMULATED: readonly Platform[] = [
  { accelerator: 'tcg', machine: 'microvm', transport: 'mmio', vmmVersion: '' },
  { accelerator: 'tcg', machine: 'q35', transport: 'pci', vmmVersion: '' },
];

/**
 * @param label part of every path below it, however odd
 * @param channel what the guests' agent is reached over
 */
export async function openWorkshop(label = '', channel: Channel = 'console'): Promise<Workshop> {
  const kernelDir = await findKernelDir();
  const kernel = await readKernelManifest(kernelDir);
  assert(kernel !== undefined, `${kernelDir} has no manifest`);
  const base = await mkdtemp(join(tmpdir(), 'vmm-'));
  const dir = join(base, `w${label}`);
  await mkdir(dir);
  return {
    dir,
    kernelPath: join(kernelDir, kernel.vmlinux.file),
    initramfsFor: async (transport) => {
      const agentPath = artifact(join(GUEST_BUILD, 'banger-agent'));
      const cacheDir = join(dir, 'initramfs');
      const inputs = { kernelDir, kernel, agentPath, transport, channel, cacheDir };
      return (await ensureInitramfs(inputs)).path;
    },
    makeRootDisk: async (path) => {
      const tree = join(dir, 'tree');
      for (const name of ROOT_DIRECTORIES) await mkdir(join(tree, name), { recursive: true });
      await run('mke2fs', ['-q', '-t', 'ext4', '-d', tree, path, '32M']);
    },
    [Symbol.asyncDispose]: () => rm(base, { recursive: true }),
  };
}

/** A directory for one machine, and its spec without disks and network. */
export async function specIn(
  workshop: Workshop,
  name: string,
  platform: Platform,
  changes: Partial<MachineSpec> = {},
): Promise<MachineSpec> {
  const socketDir = join(workshop.dir, name);
  await mkdir(socketDir, { mode: 0o700 });
  return {
    name: 'test',
    platform,
    vcpus: 1,
    memoryMib: 256,
    memory: { kind: 'anonymous' },
    kernelPath: workshop.kernelPath,
    initramfsPath: await workshop.initramfsFor(platform.transport),
    disks: [],
    network: { kind: 'none' },
    socketDir,
    consoleLogPath: join(socketDir, 'console.log'),
    vmmLogPath: join(socketDir, 'vmm.log'),
    ...changes,
  };
}

export async function makeSparseFile(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'wx');
  await file.truncate(sizeBytes);
}

export async function connectAgent(machine: Machine): Promise<AgentClient> {
  const signal = AbortSignal.timeout(HELLO_TIMEOUT_MS);
  const channel = await machine.connectChannel(signal);
  return await AgentClient.connect(channel, { signal, timeoutMs: HELLO_TIMEOUT_MS });
}

async function findKernelDir(): Promise<string> {
  const state = process.env['BANGER_TEST_ARTIFACTS'];
  assert(state, 'BANGER_TEST_ARTIFACTS must name a state directory with a kernel: npm test sets it');
  const kernels = join(state, 'kernels');
  const name = (await readdir(kernels)).find((entry) => !entry.startsWith('.'));
  assert(name !== undefined, `${kernels} holds no kernel`);
  return join(kernels, name);
}

function artifact(path: string): string {
  assert(existsSync(path), `${path} is missing: make -C guest`);
  return path;
}
