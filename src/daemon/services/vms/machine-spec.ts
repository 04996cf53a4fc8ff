/** What the driver is told to start, for a VM and for the machine that becomes a template: the same but for names and paths. */

import { join } from 'node:path';
import type { DriverCapabilities, MachineNetwork, MachineSpec, Platform } from '../../../vmm/driver.ts';
import type { VmFiles } from '../../vm-files.ts';
import { rootDiskFormat } from './driver-limits.ts';
import type { LocalKernel } from '../images/kernel-service.ts';

export interface MachineFacts {
  /** Of the driver. */
  readonly capabilities: DriverCapabilities;
  readonly name: string;
  readonly platform: Platform;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly kernel: LocalKernel;
  readonly initramfsPath: string;
  readonly files: VmFiles;
  readonly network: MachineNetwork;
}

export function machineSpec(facts: MachineFacts): MachineSpec {
  const { capabilities, name, platform, vcpus, memoryMib, kernel, initramfsPath, files, network } = facts;
  return {
    name,
    platform,
    vcpus,
    memoryMib,
    memory: { kind: 'anonymous' },
    kernelPath: join(kernel.dir, kernel.manifest.vmlinux.file),
    initramfsPath,
    disks: [
      { id: 'root', path: files.rootDisk, format: rootDiskFormat(capabilities), readOnly: false },
      { id: 'transfer', path: files.transferDisk, format: 'raw', readOnly: true },
    ],
    network,
    socketDir: files.socketDir,
    consoleLogPath: files.consoleLog,
    vmmLogPath: files.vmmLog,
  };
}
