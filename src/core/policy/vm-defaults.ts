/** How large a VM is when nobody says, and how large it may be at all on this host. */

import { BangerError } from '../errors.ts';
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

export type VmDefaults = { readonly [K in keyof Required<VmSizing>]: SourcedValue };

export interface VmLimits {
  readonly maxVcpus: number;
  readonly minMemoryMib: number;
  readonly maxMemoryMib: number;
  readonly minDiskSizeBytes: number;
  readonly maxDiskSizeBytes: number;
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
 * The size of a VM of which nothing was said: the config file's, else a share of a large host, else the builtin one
 * (half the memory of a host that has less than twice that).
 * @throws {BangerError} `bad_request`: the config file's value is beyond what this host can give
 */
export function vmDefaults(config: VmSizing, host: HostFacts): VmDefaults {
  checkVmSpec(config, host, 'vm_defaults: ');
  return {
    vcpus: configured(config.vcpus) ?? defaultVcpus(host),
    memoryMib: configured(config.memoryMib) ?? defaultMemory(host),
    diskSizeBytes: configured(config.diskSizeBytes) ?? { value: BUILTIN.diskSizeBytes, source: 'builtin' },
  };
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

export function vmLimits(host: HostFacts): VmLimits {
  const maxMemoryMib = host.memoryMib === 0 ? MAX_MEMORY_MIB : Math.min(host.memoryMib, MAX_MEMORY_MIB);
  return {
    maxVcpus: host.cpus === 0 ? MAX_VCPUS : Math.min(MAX_VCPUS, MAX_VCPUS_PER_CPU * host.cpus),
    minMemoryMib: MIN_MEMORY_MIB,
    maxMemoryMib,
    minDiskSizeBytes: GIB,
    maxDiskSizeBytes: 128 * GIB,
  };
}

/**
 * Checks what was asked for; absent fields are fine. `context` goes before the message.
 * @throws {BangerError} `bad_request` naming the value, the limit and where the limit comes from
 */
export function checkVmSpec(sizing: VmSizing, host: HostFacts, context = ''): void {
  const limits = vmLimits(host);
  const { vcpus, memoryMib, diskSizeBytes } = sizing;
  if (vcpus !== undefined) checkVcpus(vcpus, limits, host, context);
  if (memoryMib !== undefined) checkMemory(memoryMib, limits, host, context);
  if (diskSizeBytes !== undefined) checkDisk(diskSizeBytes, limits, context);
}

function checkVcpus(vcpus: number, limits: VmLimits, host: HostFacts, context: string): void {
  const why = host.cpus === 0 ? '' : ` (this host has ${host.cpus} CPUs)`;
  if (!Number.isInteger(vcpus)) throw bad(`${context}vCPUs must be a whole number, not ${vcpus}`);
  if (vcpus < 1) throw bad(`${context}vCPUs must be at least 1, not ${vcpus}`);
  if (vcpus > limits.maxVcpus) {
    throw bad(`${context}${vcpus} vCPUs are more than the limit of ${limits.maxVcpus}${why}`);
  }
}

function checkMemory(memoryMib: number, limits: VmLimits, host: HostFacts, context: string): void {
  const why = host.memoryMib === 0 ? '' : ' (all this host has)';
  if (!Number.isInteger(memoryMib)) {
    throw bad(`${context}memory must be a whole number of MiB, not ${memoryMib}`);
  }
  if (memoryMib < limits.minMemoryMib) {
    throw bad(`${context}memory must be at least ${limits.minMemoryMib} MiB, not ${memoryMib} MiB`);
  }
  if (memoryMib > limits.maxMemoryMib) {
    const limit = `${limits.maxMemoryMib} MiB${why}`;
    throw bad(`${context}${memoryMib} MiB of memory are more than the limit of ${limit}`);
  }
}

function checkDisk(diskSizeBytes: number, limits: VmLimits, context: string): void {
  if (!Number.isInteger(diskSizeBytes) || diskSizeBytes % MIB !== 0) {
    throw bad(`${context}the disk size must be a whole number of MiB, not ${diskSizeBytes} bytes`);
  }
  if (diskSizeBytes < limits.minDiskSizeBytes) {
    const given = diskSizeBytes < 0 ? `${diskSizeBytes} bytes` : formatSize(diskSizeBytes);
    throw bad(`${context}the disk must be at least ${formatSize(limits.minDiskSizeBytes)}, not ${given}`);
  }
  if (diskSizeBytes > limits.maxDiskSizeBytes) {
    const limit = formatSize(limits.maxDiskSizeBytes);
    throw bad(`${context}a disk of ${formatSize(diskSizeBytes)} is more than the limit of ${limit}`);
  }
}

function bad(message: string): BangerError {
  return new BangerError('bad_request', message);
}
