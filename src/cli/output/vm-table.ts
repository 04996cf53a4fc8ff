/** VMs as `vm list` shows them. */

import type { VmView } from '../../api/results/vm.ts';
import { DEFAULT_HOST_ADDRESS, formatHostEnd, publishedPorts } from '../../core/published-port.ts';
import { shortId } from '../../core/names.ts';
import { formatSizeShort } from '../../core/units.ts';
import { formatTable } from './table.ts';
import { timeAgo } from './times.ts';

/** How long a list says of a VM that it was woken. */
const WOKEN_IS_NEWS_MS = 60_000;

const HEADER = [
  'ID',
  'NAME',
  'STATE',
  'IMAGE',
  'IP',
  'HOST ADDRESS',
  'VCPU',
  'MEM',
  'DISK',
  'PORTS',
  'WORKSPACE',
  'CREATED',
] as const;

export function formatVmTable(vms: readonly VmView[], nowMs: number = Date.now()): string {
  return formatTable(
    HEADER,
    vms.map((vm) => [
      shortId(vm.id),
      vm.name,
      stateText(vm, nowMs),
      vm.spec.imageName,
      vm.guestIp === '' ? '-' : vm.guestIp,
      vm.hostAddress ?? '-',
      String(vm.spec.vcpus),
      `${vm.spec.memoryMib} MiB`,
      formatSizeShort(vm.spec.diskSizeBytes),
      formatPorts(vm),
      vm.workspace?.sourcePath ?? '-',
      timeAgo(vm.createdAt, nowMs),
    ]),
  );
}

/** Why it stands still, and that it has just been woken. */
function stateText({ state, runtime: { heldBy, woken } }: VmView, nowMs: number): string {
  if (heldBy === 'idle' && (state === 'paused' || state === 'saved')) return `${state} (idle)`;
  const isNews = woken !== undefined && nowMs - Date.parse(woken.at) < WOKEN_IS_NEWS_MS;
  return state === 'running' && isNews ? `running (woken by ${woken.by})` : state;
}

/** `8080->80,[::1]:8080->80`, without the address where it is the usual one; `!` behind one that could not be opened. */
function formatPorts(vm: VmView): string {
  const ports = publishedPorts(vm).map((port) => {
    const end = port.hostAddress === DEFAULT_HOST_ADDRESS ? String(port.hostPort) : formatHostEnd(port);
    return `${end}->${port.guestPort}${port.problem === undefined ? '' : '!'}`;
  });
  return ports.length === 0 ? '-' : ports.join(',');
}

/** A line for each port that a VM publishes: `published: 127.0.0.1:8080 -> 80`. */
export function formatPublished(vm: VmView): string {
  return publishedPorts(vm)
    .map((port) => `published: ${formatHostEnd(port)} -> ${port.guestPort}\n`)
    .join('');
}

/** `4 vcpu | 8192 MiB | 8G disk` */
export function formatSpec(spec: VmView['spec']): string {
  return `${spec.vcpus} vcpu | ${spec.memoryMib} MiB | ${formatSizeShort(spec.diskSizeBytes)} disk`;
}

/** One line per VM: what was done to it. */
export function formatDone(word: string): (vms: readonly VmView[]) => string {
  return (vms) => vms.map((vm) => `${vm.name}: ${word}\n`).join('');
}
