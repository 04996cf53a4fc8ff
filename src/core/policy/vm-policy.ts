/** How large a VM is when nobody says, and how large it may be at all on this host. */

import { BangerError } from '../errors.ts';
import type { AcceleratorChoice } from '../model/vm.ts';
import { formatSize, GIB, MIB } from '../units.ts';

/** Zero means: not known. */
export interface HostFacts {
  readonly cpus: number;
  readonly memoryMib: number;
}

/** What a config file or a flag may say about a VM's size. */
export interface VmSizing {
  readonly vcpus?: number;
  readonly memoryMib?: number;
  readonly diskSizeBytes?: number;
}

/** Written in the config file; derived from this host; or the same everywhere. */
export type DefaultSource = 'config' | 'auto' | 'builtin';

export interface SourcedValue {
  readonly value: number;
  readonly source: DefaultSource;
}

export interface VmLimits {
  readonly maxVcpus: number;
  readonly minMemoryMib: number;
  readonly maxMemoryMib: number;
  readonly minDiskSizeBytes: number;
  readonly maxDiskSizeBytes: number;
}

export interface VmPolicy {
  readonly defaults: { readonly [K in keyof Required<VmSizing>]: SourcedValue };
  readonly accel: AcceleratorChoice;
  readonly limits: VmLimits;
  readonly host: HostFacts;
}

const BUILTIN = { vcpus: 2, memoryMib: 2048, diskSizeBytes: 8 * GIB } as const;
const MAX_DEFAULT_VCPUS = 4;
const MAX_DEFAULT_MEMORY_MIB = 8192;
/** A quarter of the CPUs and an eighth of the memory, so that several VMs run beside each other. */
const CPU_SHARE = 4;
const MEMORY_SHARE = 8;
/** Threads beyond four per CPU only wait for each other. */
const MAX_VCPUS_PER_CPU = 4;
const MAX_VCPUS = 64;
const MIN_MEMORY_MIB = 128;
const MAX_MEMORY_MIB = 1024 * 1024;

/**
 * Defaults are the config file's, else a share of a large host, else the builtin ones (half the memory of a host that
 * has less than twice that).
 * @throws {BangerError} `bad_request`: the config file's value is beyond what this host can give
 */
export function vmPolicy(
  config: { readonly vmDefaults: VmSizing; readonly accel: AcceleratorChoice },
  host: HostFacts,
): VmPolicy {
  const { vcpus, memoryMib, diskSizeBytes } = config.vmDefaults;
  const policy: VmPolicy = {
    defaults: {
      vcpus: configured(vcpus) ?? defaultVcpus(host),
      memoryMib: configured(memoryMib) ?? defaultMemory(host),
      diskSizeBytes: configured(diskSizeBytes) ?? { value: BUILTIN.diskSizeBytes, source: 'builtin' },
    },
    accel: config.accel,
    limits: vmLimits(host),
    host,
  };
  checkVmSpec(config.vmDefaults, policy, 'vm_defaults: ');
  return policy;
}

function configured(value: number | undefined): SourcedValue | undefined {
  return value === undefined ? undefined : { value, source: 'config' };
}

function defaultVcpus(host: HostFacts): SourcedValue {
  const share = Math.min(Math.floor(host.cpus / CPU_SHARE), MAX_DEFAULT_VCPUS);
  return share > BUILTIN.vcpus
    ? { value: share, source: 'auto' }
    : { value: BUILTIN.vcpus, source: 'builtin' };
}

function defaultMemory(host: HostFacts): SourcedValue {
  const share = Math.min(Math.floor(host.memoryMib / MEMORY_SHARE), MAX_DEFAULT_MEMORY_MIB);
  if (share > BUILTIN.memoryMib) return { value: share, source: 'auto' };
  if (host.memoryMib === 0 || host.memoryMib >= 2 * BUILTIN.memoryMib) {
    return { value: BUILTIN.memoryMib, source: 'builtin' };
  }
  return { value: Math.max(Math.floor(host.memoryMib / 2), MIN_MEMORY_MIB), source: 'auto' };
}

function vmLimits(host: HostFacts): VmLimits {
  // A host with less than the minimum still gets one range that is not empty.
  const hostMemoryMib = Math.max(host.memoryMib, MIN_MEMORY_MIB);
  return {
    maxVcpus: host.cpus === 0 ? MAX_VCPUS : Math.min(MAX_VCPUS, MAX_VCPUS_PER_CPU * host.cpus),
    minMemoryMib: MIN_MEMORY_MIB,
    maxMemoryMib: host.memoryMib === 0 ? MAX_MEMORY_MIB : Math.min(hostMemoryMib, MAX_MEMORY_MIB),
    minDiskSizeBytes: GIB,
    maxDiskSizeBytes: 128 * GIB,
  };
}

/**
 * Checks the size asked for, in a spec or by itself, and gives it back; absent fields are fine. `context` goes before
 * the message.
 * @throws {BangerError} `bad_request` naming the value, the limit and where the limit comes from
 */
export function checkVmSpec<T extends VmSizing>(wanted: T, policy: VmPolicy, context = ''): T {
  const { vcpus, memoryMib, diskSizeBytes } = wanted;
  const wrong =
    (vcpus === undefined ? undefined : vcpusProblem(vcpus, policy)) ??
    (memoryMib === undefined ? undefined : memoryProblem(memoryMib, policy)) ??
    (diskSizeBytes === undefined ? undefined : diskProblem(diskSizeBytes, policy.limits));
  if (wrong !== undefined) throw new BangerError('bad_request', `${context}${wrong}`);
  return wanted;
}

function vcpusProblem(vcpus: number, { limits, host }: VmPolicy): string | undefined {
  if (!Number.isInteger(vcpus)) return `the number of vCPUs must be whole, not ${vcpus}`;
  if (vcpus < 1) return `the number of vCPUs must be at least 1, not ${vcpus}`;
  if (vcpus <= limits.maxVcpus) return undefined;
  const why = host.cpus === 0 ? '' : ` (this host has ${host.cpus} ${host.cpus === 1 ? 'CPU' : 'CPUs'})`;
  return `${vcpus} vCPUs are more than the limit of ${limits.maxVcpus}${why}`;
}

function memoryProblem(memoryMib: number, { limits, host }: VmPolicy): string | undefined {
  if (!Number.isInteger(memoryMib)) return `memory must be a whole number of MiB, not ${memoryMib}`;
  if (memoryMib < limits.minMemoryMib) {
    return `memory must be at least ${limits.minMemoryMib} MiB, not ${memoryMib} MiB`;
  }
  if (memoryMib <= limits.maxMemoryMib) return undefined;
  const why = host.memoryMib === 0 ? '' : ', all this host has';
  return `${memoryMib} MiB of memory are more than the limit of ${limits.maxMemoryMib} MiB${why}`;
}

function diskProblem(diskSizeBytes: number, limits: VmLimits): string | undefined {
  if (!Number.isInteger(diskSizeBytes)) {
    return `the disk size must be a whole number of bytes, not ${diskSizeBytes}`;
  }
  if (diskSizeBytes < limits.minDiskSizeBytes) {
    const given = diskSizeBytes < 0 ? `${diskSizeBytes} bytes` : formatSize(diskSizeBytes);
    return `the disk must have at least ${formatSize(limits.minDiskSizeBytes)}, not ${given}`;
  }
  if (diskSizeBytes > limits.maxDiskSizeBytes) {
    const limit = formatSize(limits.maxDiskSizeBytes);
    return `a disk of ${formatSize(diskSizeBytes)} is more than the limit of ${limit}`;
  }
  if (diskSizeBytes % MIB === 0) return undefined;
  return `the disk size must be a whole number of MiB, not ${diskSizeBytes} bytes`;
}
