/**
 * Which platform works here, found out by booting: some hosts open /dev/kvm, create a machine with it and then end the VMM
 * or spin for ever at the guest's first steps.
 */

import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, type ErrorCode, errorText } from '../core/errors.ts';
import { fileError, removeTree } from '../host/files.ts';
import type {
  Machine,
  MachineHandles,
  MachineNetwork,
  MachineSpec,
  Platform,
  ProbeAttempt,
  ProbeOptions,
  ProbeResult,
} from './driver.ts';
import { awaitHello } from './hello.ts';
import { lastWords } from './last-words.ts';
import { PROBE_DIR_PREFIX, recordProbe, sweepProbes } from './probe-leftovers.ts';

export interface BootPorts {
  readonly launch: (
    spec: MachineSpec,
    onSpawn: (handles: MachineHandles) => Promise<void>,
  ) => Promise<Machine>;
  /** How long a boot may take. */
  readonly boundMs: (platform: Platform) => number;
  /** A reason not to try at all. */
  readonly obstacle: (platform: Platform) => Promise<string | undefined>;
  /** What a VM would have. */
  readonly network: MachineNetwork;
}

/** What a boot that fails throws; `cancelled` is its bound. Everything else (a full disk …) is no verdict. */
const SAYS_IT_DOES_NOT_WORK: ReadonlySet<ErrorCode> = new Set([
  'vmm_failed',
  'channel_broken',
  'version_mismatch',
  'cancelled',
]);

const MEMORY_MIB = 256;

/**
 * Boots on one after another: the first that works is chosen. No result when none does.
 * @throws {BangerError} `cancelled`
 */
export async function probePlatforms(
  ports: BootPorts,
  options: ProbeOptions,
  platforms: readonly Platform[],
): Promise<ProbeResult | readonly ProbeAttempt[]> {
  await sweepProbes(options.scratchDir);
  const attempts: ProbeAttempt[] = [];
  for (const platform of platforms) {
    throwIfCancelled(options.signal);
    const name = `${platform.accelerator} (${platform.machine})`;
    options.onStep(`trying ${name}`);
    const attempt = await tryPlatform(ports, options, platform);
    attempts.push(attempt);
    if (attempt.works) return { chosen: platform, attempts };
    options.onStep(`${name} does not work here: ${attempt.reason ?? 'unknown'}`);
  }
  return attempts;
}

async function tryPlatform(
  ports: BootPorts,
  options: ProbeOptions,
  platform: Platform,
): Promise<ProbeAttempt> {
  const started = performance.now();
  const obstacle = await ports.obstacle(platform);
  const reason = obstacle ?? (await bootOnce(ports, options, platform));
  const durationMs = Math.round(performance.now() - started);
  return reason === undefined
    ? { platform, works: true, durationMs }
    : { platform, works: false, durationMs, reason };
}

/** Boots to the agent's hello and ends the machine again. The reason why that failed; undefined when it worked. */
async function bootOnce(
  ports: BootPorts,
  options: ProbeOptions,
  platform: Platform,
): Promise<string | undefined> {
  const initramfsPath = await options.initramfsFor(platform.transport);
  const dir = await makeProbeDir(options.scratchDir);
  const boundMs = ports.boundMs(platform);
  const bound = AbortSignal.timeout(boundMs);
  const signal = AbortSignal.any([options.signal, bound]);
  let machine: Machine | undefined;
  try {
    const spec = probeSpec(ports, options.kernelPath, initramfsPath, platform, dir);
    machine = await ports.launch(spec, (handles) => recordProbe(dir, handles));
    await firstHello(machine, signal);
    return undefined;
  } catch (error) {
    throwIfCancelled(options.signal);
    if (!(error instanceof BangerError) || !SAYS_IT_DOES_NOT_WORK.has(error.code)) throw error;
    if (!bound.aborted) return errorText(error);
    const words = await lastWords(join(dir, 'console.log'));
    return `no sign of the guest within ${boundMs} ms${words === '' ? '' : `; its console: ${words}`}`;
  } finally {
    await endMachine(machine).finally(() => removeTree(dir, { below: options.scratchDir }));
  }
}

/** Where the process ends under the connection, its last words say more than the hang-up. */
async function firstHello(machine: Machine, signal: AbortSignal): Promise<void> {
  const channel = await machine.connectChannel(signal);
  try {
    await awaitHello(channel, signal);
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'channel_broken') throw error;
    (await machine.connectChannel(signal)).destroy();
    throw error;
  }
}

async function endMachine(machine: Machine | undefined): Promise<void> {
  await machine?.kill();
  machine?.release();
}

async function makeProbeDir(scratchDir: string): Promise<string> {
  try {
    const dir = await mkdtemp(join(scratchDir, PROBE_DIR_PREFIX));
    await recordProbe(dir, undefined);
    return dir;
  } catch (error) {
    throw fileError(`cannot make a directory in ${scratchDir}`, error);
  }
}

/** A machine as a VM's would be, but for the disks. */
function probeSpec(
  { network }: BootPorts,
  kernelPath: string,
  initramfsPath: string,
  platform: Platform,
  dir: string,
): MachineSpec {
  return {
    name: 'probe',
    platform,
    vcpus: 1,
    memoryMib: MEMORY_MIB,
    memory: { kind: 'anonymous' },
    kernelPath,
    initramfsPath,
    disks: [],
    network,
    socketDir: dir,
    consoleLogPath: join(dir, 'console.log'),
    vmmLogPath: join(dir, 'vmm.log'),
  };
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new BangerError('cancelled', 'the probe was cancelled');
}
