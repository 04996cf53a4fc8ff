/**
 * Which accelerator and machine type work here, found out by booting: some hosts open /dev/kvm, create a machine with it
 * and then end QEMU or spin for ever at the guest's first steps.
 */

import { constants } from 'node:fs';
import { mkdtemp, open } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, type ErrorCode, errorText } from '../../core/errors.ts';
import type { Accelerator, AcceleratorChoice } from '../../core/model/vm.ts';
import { fileError, removeTree } from '../../host/files.ts';
import type {
  Machine,
  MachineHandles,
  MachineSpec,
  Platform,
  ProbeAttempt,
  ProbeOptions,
  ProbeResult,
} from '../driver.ts';
import { awaitHello } from '../hello.ts';
import { lastWords } from '../last-words.ts';
import { MACHINES, needsTscRate, type QemuMachineType } from './config.ts';
import { PROBE_DIR_PREFIX, recordProbe, sweepProbes } from './probe-leftovers.ts';
import type { QemuProgram } from './program.ts';

export interface ProbePorts {
  readonly inspect: (signal: AbortSignal) => Promise<QemuProgram>;
  readonly launch: (
    spec: MachineSpec,
    onSpawn: (handles: MachineHandles) => Promise<void>,
  ) => Promise<Machine>;
  readonly tscKhz: () => Promise<number | undefined>;
  readonly kvmPath: string;
  readonly boundMs?: (platform: Platform) => number;
}

/** An order of preference: the first that works is chosen. */
const CANDIDATES: readonly (readonly [Accelerator, QemuMachineType])[] = [
  ['kvm', 'microvm'],
  ['kvm', 'q35'],
  ['tcg', 'microvm'],
  ['tcg', 'q35'],
];

/** What a boot that fails throws; `cancelled` is its bound. Everything else (a full disk …) is no verdict. */
const SAYS_IT_DOES_NOT_WORK: ReadonlySet<ErrorCode> = new Set([
  'vmm_failed',
  'channel_broken',
  'version_mismatch',
  'cancelled',
]);

const MEMORY_MIB = 256;

/** How long a boot may take: 4 to 10 times what it takes on a slow, busy host. */
function usualBoundMs({ accelerator, machine }: Platform): number {
  if (accelerator === 'kvm') return 6000;
  return machine === 'microvm' ? 20_000 : 40_000;
}

/** Contract: VmmDriver.probe. */
export async function probe(ports: ProbePorts, options: ProbeOptions): Promise<ProbeResult> {
  const { version, machines } = await ports.inspect(options.signal);
  await sweepProbes(options.scratchDir);
  const attempts: ProbeAttempt[] = [];
  for (const platform of candidates(options.accel, machines, version)) {
    throwIfCancelled(options.signal);
    const name = `${platform.accelerator} (${platform.machine})`;
    options.onStep(`trying ${name}`);
    const attempt = await tryPlatform(ports, options, platform);
    attempts.push(attempt);
    if (attempt.works) return { chosen: platform, attempts };
    options.onStep(`${name} does not work here: ${attempt.reason ?? 'unknown'}`);
  }
  throw nothingWorks(attempts, options.accel);
}

/**
 * KVM is tried on one machine type unless it was asked for by name: where it does not work it fails on all of them,
 * and each failure may take the whole bound.
 */
function candidates(
  accel: AcceleratorChoice,
  machines: ReadonlySet<QemuMachineType>,
  vmmVersion: string,
): readonly Platform[] {
  const usable = CANDIDATES.filter(
    ([accelerator, machine]) => machines.has(machine) && (accel === 'auto' || accel === accelerator),
  );
  const firstKvm = usable.find(([accelerator]) => accelerator === 'kvm');
  return usable
    .filter((candidate) => accel !== 'auto' || candidate[0] !== 'kvm' || candidate === firstKvm)
    .map(([accelerator, machine]) => ({ accelerator, machine, transport: MACHINES[machine], vmmVersion }));
}

async function tryPlatform(
  ports: ProbePorts,
  options: ProbeOptions,
  platform: Platform,
): Promise<ProbeAttempt> {
  const started = performance.now();
  const obstacle = await findObstacle(ports, platform);
  const reason = obstacle ?? (await bootOnce(ports, options, platform));
  const durationMs = Math.round(performance.now() - started);
  return reason === undefined
    ? { platform, works: true, durationMs }
    : { platform, works: false, durationMs, reason };
}

/** A reason not to try at all. */
async function findObstacle(ports: ProbePorts, platform: Platform): Promise<string | undefined> {
  if (platform.accelerator === 'kvm') {
    try {
      await (await open(ports.kvmPath, constants.O_RDWR)).close();
    } catch (error) {
      return `cannot open ${ports.kvmPath}: ${(error as NodeJS.ErrnoException).code}`;
    }
  }
  if (needsTscRate(platform) && (await ports.tscKhz()) === undefined) {
    return 'the rate of this host’s time stamp counter is not known exactly';
  }
  return undefined;
}

/** Boots to the agent's hello and ends the machine again. The reason why that failed; undefined when it worked. */
async function bootOnce(
  ports: ProbePorts,
  options: ProbeOptions,
  platform: Platform,
): Promise<string | undefined> {
  const initramfsPath = await options.initramfsFor(platform.transport);
  const dir = await makeProbeDir(options.scratchDir);
  const boundMs = (ports.boundMs ?? usualBoundMs)(platform);
  const bound = AbortSignal.timeout(boundMs);
  const signal = AbortSignal.any([options.signal, bound]);
  let machine: Machine | undefined;
  try {
    const spec = probeSpec(options.kernelPath, initramfsPath, platform, dir);
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

/** A machine as a VM's would be, but for the disks: a QEMU built without user-mode networking must fail here. */
function probeSpec(kernelPath: string, initramfsPath: string, platform: Platform, dir: string): MachineSpec {
  return {
    name: 'probe',
    platform,
    vcpus: 1,
    memoryMib: MEMORY_MIB,
    memory: { kind: 'anonymous' },
    kernelPath,
    initramfsPath,
    disks: [],
    network: {
      kind: 'user',
      outbound: false,
      mac: '52:54:00:00:00:01',
      guestIp: '10.0.2.15',
      gatewayIp: '10.0.2.2',
      dnsIp: '10.0.2.3',
    },
    socketDir: dir,
    consoleLogPath: join(dir, 'console.log'),
    vmmLogPath: join(dir, 'vmm.log'),
  };
}

function nothingWorks(attempts: readonly ProbeAttempt[], accel: AcceleratorChoice): BangerError {
  const what = accel === 'auto' ? 'no accelerator works' : `${accel} does not work`;
  const reasons = attempts.map(
    ({ platform, reason }) => `${platform.accelerator} (${platform.machine}): ${reason}`,
  );
  const why = reasons.length === 0 ? 'this QEMU has no machine type that is used here' : reasons.join('; ');
  return new BangerError('vmm_failed', `${what} on this host: ${why}`, {
    hint:
      accel === 'kvm'
        ? 'software emulation needs no KVM: --accel tcg'
        : 'banger needs QEMU 7.2 or later: qemu-system-x86_64 --version',
  });
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new BangerError('cancelled', 'the probe was cancelled');
}
