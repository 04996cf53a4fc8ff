/** A guest with programs in it that is saved, and clones of it: what the contract of frozen machines works with. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentClient } from '../../../src/guest/agent-client.ts';
import { collect } from '../../../src/guest/collect.ts';
import { createRootDisk } from '../../../src/images/disk.ts';
import { readImageManifest } from '../../../src/images/manifests.ts';
import type {
  FrozenState,
  Machine,
  MachineNetwork,
  MachineSpec,
  Platform,
  RestoreOptions,
  ShapeDigests,
  VmmDriver,
} from '../../../src/vmm/driver.ts';
import type { MachineShape } from '../../../src/vmm/shape.ts';
import { connectAgent, makeSparseFile, specIn, type Workshop } from '../fixture.ts';

const TRANSFER_BYTES = 1024 ** 3;
const MEMORY_MIB = 256;
const EXEC_TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 64 * 1024;
const never = new AbortController().signal;
/** Of the files of every spec here. */
export const DIGESTS: ShapeDigests = { kernel: 'kernel of this test', initramfs: 'initramfs of this test' };

/** What is left of a machine that was saved, and what it takes to restore it. */
export interface Frozen {
  readonly spec: MachineSpec;
  readonly memoryPath: string;
  readonly rootPath: string;
  readonly rootBytes: number;
  readonly state: FrozenState;
  readonly shape: MachineShape;
}

export interface CloneChanges {
  readonly spec?: Partial<MachineSpec>;
  readonly options?: Partial<RestoreOptions>;
  readonly rootBytes?: number;
}

/** A Debian guest on a disk of its own, its network unplugged; and where its memory would be saved. */
export async function guestSpec(
  driver: VmmDriver,
  workshop: Workshop,
  name: string,
  platform: Platform,
): Promise<{ spec: MachineSpec; rootBytes: number; rootPath: string; memoryPath: string }> {
  const { path, format, sizeBytes } = await imageDisk();
  const dir = join(workshop.dir, name);
  await mkdir(dir, { mode: 0o700 });
  const [rootPath, transferPath, memoryPath] = ['root', 'transfer.img', 'memory'].map((file) =>
    join(dir, file),
  ) as [string, string, string];
  await createRootDisk({
    ...{ basePath: path, baseFormat: format, sizeBytes },
    ...{ path: rootPath, format: rootFormat(driver), signal: never },
  });
  await makeSparseFile(transferPath, TRANSFER_BYTES);
  const spec = await specIn(workshop, `${name}-s`, platform, {
    vcpus: 2,
    memoryMib: MEMORY_MIB,
    disks: disksOf(driver, rootPath, transferPath),
    network: hasNetwork(driver) ? { kind: 'unplugged', mac: '52:54:00:00:00:01' } : { kind: 'none' },
  });
  return { spec, rootBytes: sizeBytes, rootPath, memoryPath };
}

/** Boots a guest, lets `prepare` work in it, saves it and ends it. */
export async function bootAndSave(
  driver: VmmDriver,
  workshop: Workshop,
  platform: Platform,
  prepare: (agent: AgentClient) => Promise<void>,
  changes: Partial<MachineSpec> = {},
): Promise<Frozen> {
  const made = await guestSpec(driver, workshop, 'frozen', platform);
  const spec = { ...made.spec, ...changes };
  const shape = await driver.shape(spec, DIGESTS, AbortSignal.timeout(EXEC_TIMEOUT_MS));
  const machine = await driver.launch(spec, async () => {});
  try {
    const agent = await connectAgent(machine);
    assert.equal(agent.hello.error, null);
    await prepare(agent);
    agent.close();
    const statePath = join(made.memoryPath, '..', 'state');
    await machine.pause();
    const state = await saveIn(machine, statePath, made.memoryPath);
    return { ...made, spec, state, shape };
  } finally {
    await machine.kill();
  }
}

/** @throws what `save` throws */
export async function saveIn(machine: Machine, statePath: string, memoryPath: string): Promise<FrozenState> {
  return await machine.save({ statePath, memoryPath, signal: AbortSignal.timeout(60_000) });
}

/** A clone's own disks and network, and what `restore` is called with. */
export async function cloneOf(
  driver: VmmDriver,
  workshop: Workshop,
  frozen: Frozen,
  name: string,
  changes: CloneChanges = {},
): Promise<{ spec: MachineSpec; options: RestoreOptions; transferPath: string }> {
  const [rootPath, transferPath] = ['root', 'transfer.img'].map((file) =>
    join(workshop.dir, `${name}-${file}`),
  ) as [string, string];
  const sizeBytes = changes.rootBytes ?? frozen.rootBytes;
  const format = rootFormat(driver);
  await createRootDisk({
    ...{ basePath: frozen.rootPath, baseFormat: format, sizeBytes },
    ...{ path: rootPath, format, signal: never },
  });
  await makeSparseFile(transferPath, TRANSFER_BYTES);
  const spec = await specIn(workshop, name, frozen.spec.platform, {
    vcpus: frozen.spec.vcpus,
    memoryMib: frozen.spec.memoryMib,
    memory: { kind: 'file', path: frozen.memoryPath },
    disks: disksOf(driver, rootPath, transferPath),
    network: networkOf(driver, 10),
    ...changes.spec,
  });
  const signal = AbortSignal.timeout(60_000);
  const { state, shape } = frozen;
  return { spec, options: { state, shape, digests: DIGESTS, signal, ...changes.options }, transferPath };
}

/** @param third of the guest's address: every clone may have a network of its own */
export function userNetwork(third: number): MachineNetwork {
  const net = `10.99.${third}`;
  return {
    kind: 'user',
    outbound: false,
    mac: `52:54:00:00:00:${third.toString(16).padStart(2, '0')}`,
    guestIp: `${net}.5`,
    gatewayIp: `${net}.1`,
    dnsIp: `${net}.254`,
  };
}

/** What a shell script prints in the guest; it must succeed. */
export async function inGuest(agent: AgentClient, script: string): Promise<string> {
  const open = (): ReturnType<AgentClient['exec']> => agent.exec({ argv: ['/bin/sh', '-ec', script] });
  const { stdout, stderr, result } = await collect(open, {
    what: script,
    timeoutMs: EXEC_TIMEOUT_MS,
    signal: undefined,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  });
  assert.deepEqual(result, { kind: 'done', status: 0 }, `${script}: ${stderr.toString()}`);
  return stdout.toString().trim();
}

/** Runs `work` with the agents of machines, and ends all of them whatever happens. */
export async function withAgents(
  machines: readonly Machine[],
  work: (agents: readonly AgentClient[]) => Promise<void>,
): Promise<void> {
  const agents: AgentClient[] = [];
  try {
    for (const machine of machines) agents.push(await connectAgent(machine));
    await work(agents);
  } finally {
    for (const agent of agents) agent.close();
    for (const machine of machines) await machine.kill();
  }
}

export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Memory of a machine's processes in KiB, as proc(5) counts it in /proc/pid/smaps_rollup: Rss, Pss, Private_Dirty … */
export async function memoryOf(pid: number): Promise<Readonly<Record<string, number>>> {
  const sums: Record<string, number> = {};
  for (const each of [pid, ...(await childrenOf(pid))]) {
    const text = await readFile(`/proc/${each}/smaps_rollup`, 'utf8');
    for (const [, name = '', kib] of text.matchAll(/^(\w+):\s+(\d+) kB$/gm)) {
      sums[name] = (sums[name] ?? 0) + Number(kib);
    }
  }
  return sums;
}

/** A model of a VMM has its guest in a process of its own. */
async function childrenOf(pid: number): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text
    .split(' ')
    .filter((word) => word.trim() !== '')
    .map(Number);
}

/** The one that shares what clones have in common, where the driver can. */
export function rootFormat({ capabilities }: VmmDriver): 'raw' | 'qcow2' {
  return capabilities.diskFormats.includes('qcow2') ? 'qcow2' : 'raw';
}

export function hasNetwork({ capabilities }: VmmDriver): boolean {
  return capabilities.networks.includes('user');
}

/** @param third as for `userNetwork` */
export function networkOf(driver: VmmDriver, third: number): MachineNetwork {
  return hasNetwork(driver) ? userNetwork(third) : { kind: 'none' };
}

function disksOf(driver: VmmDriver, rootPath: string, transferPath: string): MachineSpec['disks'] {
  return [
    { id: 'root', path: rootPath, format: rootFormat(driver), readOnly: false },
    { id: 'transfer', path: transferPath, format: 'raw', readOnly: true },
  ];
}

async function imageDisk(): Promise<{ path: string; format: 'raw' | 'qcow2'; sizeBytes: number }> {
  const stateDir = process.env['BANGER_TEST_ARTIFACTS'];
  assert(stateDir, 'BANGER_TEST_ARTIFACTS must name a state directory with an image: npm test sets it');
  const dir = join(stateDir, 'images', 'debian-bookworm');
  const image = await readImageManifest(dir);
  assert(image !== undefined, `${dir} holds no image`);
  const { file, format, virtualSizeBytes } = image.rootfs;
  return { path: join(dir, file), format, sizeBytes: virtualSizeBytes };
}
