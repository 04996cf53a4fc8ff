/** Snapshots of VMs as the commands of `banger vm snapshot` show them. */

import type { VmSnapshotDetail, VmSnapshotList } from '../../api/results/snapshot.ts';
import { shortId } from '../../core/names.ts';
import { formatSize, formatSizeShort } from '../../core/units.ts';
import { formatPairs, formatTable } from './table.ts';
import { timeAgo } from './times.ts';

const HEADER = ['NAME', 'ID', 'VM', 'MEMORY', 'DISK', 'SIZE', 'CREATED'] as const;

export function formatVmSnapshotTable(list: VmSnapshotList, nowMs: number = Date.now()): string {
  const rows = list.snapshots.map((snapshot) => [
    snapshot.name,
    shortId(snapshot.id),
    snapshot.vm.exists ? snapshot.vm.name : `(${snapshot.vm.name})`,
    snapshot.withMemory ? formatSizeShort(snapshot.memoryMib * 1024 ** 2) : '-',
    formatSizeShort(snapshot.diskSizeBytes),
    formatSizeShort(snapshot.allocatedBytes),
    timeAgo(snapshot.createdAt, nowMs),
  ]);
  const broken = list.broken.map(({ id, problem }) => `${shortId(id)}: ${problem}\n`);
  return [formatTable(HEADER, rows), ...broken].join('');
}

export function formatVmSnapshot(snapshot: VmSnapshotDetail): string {
  const memory = snapshot.withMemory
    ? formatSize(snapshot.memoryMib * 1024 ** 2)
    : 'none: what is made of it boots';
  const gone = snapshot.vm.exists ? '' : snapshot.imported ? ', imported' : ', which is gone';
  return formatPairs([
    ['name', snapshot.name],
    ['id', snapshot.id],
    ['of', `${snapshot.vm.name} (${shortId(snapshot.vm.id)})${gone}`],
    ['created', `${snapshot.createdAt} (${timeAgo(snapshot.createdAt)})`],
    ['memory', memory],
    ['disk', formatSize(snapshot.diskSizeBytes)],
    ['on disk', formatSize(snapshot.allocatedBytes)],
    ['image', snapshot.imageName],
    ...Object.entries(snapshot.needs).map(([name, value]) => [name, value] as const),
    ['directory', snapshot.dir],
    ['usable', snapshot.problem ?? 'yes'],
  ]);
}
