/** Which accelerator and machine type work here with QEMU: found out by booting (../probe.ts). */

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { systemReason } from '../../core/system-error.ts';
import type { Accelerator, AcceleratorChoice } from '../../core/model/vm.ts';
import type {
  Machine,
  MachineHandles,
  MachineSpec,
  Platform,
  ProbeAttempt,
  ProbeOptions,
  ProbeResult,
  UserNetwork,
} from '../driver.ts';
import { probePlatforms } from '../probe.ts';
import { MACHINES, needsTscRate, type QemuMachineType } from './config.ts';
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

/** A QEMU built without user-mode networking must fail here. */
const NETWORK: UserNetwork = {
  kind: 'user',
  outbound: false,
  mac: '52:54:00:00:00:01',
  guestIp: '10.0.2.15',
  gatewayIp: '10.0.2.2',
  dnsIp: '10.0.2.3',
};

/** How long a boot may take: 4 to 10 times what it takes on a slow, busy host. */
function usualBoundMs({ accelerator, machine }: Platform): number {
  if (accelerator === 'kvm') return 6000;
  return machine === 'microvm' ? 20_000 : 40_000;
}

/** Contract: VmmDriver.probe. */
export async function probe(ports: ProbePorts, options: ProbeOptions): Promise<ProbeResult> {
  const { version, machines } = await ports.inspect(options.signal);
  const { launch, boundMs = usualBoundMs } = ports;
  const obstacle = (platform: Platform): Promise<string | undefined> => findObstacle(ports, platform);
  const result = await probePlatforms(
    { launch, boundMs, obstacle, network: NETWORK },
    options,
    candidates(options.accel, machines, version),
  );
  if ('chosen' in result) return result;
  throw nothingWorks(result, options.accel);
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

/** A reason not to try at all. */
async function findObstacle(ports: ProbePorts, platform: Platform): Promise<string | undefined> {
  if (platform.accelerator === 'kvm') {
    try {
      await (await open(ports.kvmPath, constants.O_RDWR)).close();
    } catch (error) {
      return `cannot open ${ports.kvmPath}: ${systemReason(error)}`;
    }
  }
  if (needsTscRate(platform) && (await ports.tscKhz()) === undefined) {
    return 'the rate of this host’s time stamp counter is not known exactly';
  }
  return undefined;
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
