/** VMs as `vm list` shows them. */

import type { VmView } from '../../api/contract.ts';
import { shortId } from '../../core/names.ts';
import { formatSizeShort } from '../../core/units.ts';
import { formatTable } from './table.ts';
import { timeAgo } from './times.ts';

const HEADER = ['ID', 'NAME', 'STATE', 'IMAGE', 'IP', 'VCPU', 'MEM', 'DISK', 'WORKSPACE', 'CREATED'] as const;

export function formatVmTable(vms: readonly VmView[], nowMs: number = Date.now()): string {
  return formatTable(
    HEADER,
    vms.map((vm) => [
      shortId(vm.id),
      vm.name,
      vm.state,
      vm.spec.imageName,
      vm.guestIp === '' ? '-' : vm.guestIp,
      String(vm.spec.vcpus),
      `${vm.spec.memoryMib} MiB`,
      formatSizeShort(vm.spec.diskSizeBytes),
      vm.workspace?.sourcePath ?? '-',
      timeAgo(vm.createdAt, nowMs),
    ]),
  );
}

/** `4 vcpu | 8192 MiB | 8G disk` */
export function formatSpec(spec: VmView['spec']): string {
  return `${spec.vcpus} vcpu | ${spec.memoryMib} MiB | ${formatSizeShort(spec.diskSizeBytes)} disk`;
}

/** One line per VM: what was done to it. */
export function formatDone(word: string): (vms: readonly VmView[]) => string {
  return (vms) => vms.map((vm) => `${vm.name}: ${word}\n`).join('');
}
