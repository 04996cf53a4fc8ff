/**
 * The shape of a Firecracker machine: what its requests say, without what is its own. Firecracker checks the version of a
 * state's format, not whether the host's CPU is the one that the guest has known. Pure.
 */

import type { MachineSpec, ShapeDigests } from '../driver.ts';
import type { MachineShape } from '../shape.ts';
import { bootRequests } from './config.ts';

export interface ShapeFacts {
  /** What the program says of itself. */
  readonly vmm: string;
  /** Which file the program is. */
  readonly program: string;
  readonly digests: ShapeDigests;
  readonly hostCpu: string;
}

/** Requests that get entries of their own, under a name for people. */
const NAMED: Readonly<Record<string, string>> = { '/machine-config': 'vCPUs and memory' };

export function firecrackerShape(spec: MachineSpec, facts: ShapeFacts): MachineShape {
  const named: Record<string, string> = {};
  const devices: unknown[] = [];
  for (const { path, body } of bootRequests(impersonal(spec))) {
    const name = NAMED[path];
    if (name === undefined) devices.push([path, body]);
    else named[name] = JSON.stringify(body);
  }
  return {
    ...named,
    driver: 'firecracker',
    VMM: facts.vmm,
    'VMM program': facts.program,
    kernel: facts.digests.kernel,
    initramfs: facts.digests.initramfs,
    'host CPU': facts.hostCpu,
    'devices and kernel command line': JSON.stringify(devices),
  };
}

/** The spec with one and the same name and paths for every machine. */
function impersonal(spec: MachineSpec): MachineSpec {
  return {
    ...spec,
    name: '',
    kernelPath: '/kernel',
    initramfsPath: '/initramfs',
    disks: spec.disks.map((disk) => ({ ...disk, path: '/disk' })),
    socketDir: '/sockets',
    consoleLogPath: '/console.log',
    vmmLogPath: '/vmm.log',
  };
}
