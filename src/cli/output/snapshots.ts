/** Snapshots as the commands of `banger state` show them. */

import type { SnapshotView } from '../../api/results/state.ts';
import { counted, formatSize, formatSizeShort } from '../../core/units.ts';
import { formatPairs, formatTable } from './table.ts';
import { timeAgo } from './times.ts';

const SHORT_DIGITS = 12;
const HEADER = [
  'DIGEST',
  'REFS',
  'VMS',
  'IMAGES',
  'SIZE',
  'SCHEMA',
  'CHANGES',
  'CREATED',
  'PROBLEM',
] as const;
const CREATED = HEADER.indexOf('CREATED');

/** The beginning of the hex, which every command takes. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, SHORT_DIGITS);
}

/** `2 VMs, 1 image` */
export function formatCounts(counts: Readonly<Record<string, number>>): string {
  return [counted(counts['vms'] ?? 0, 'VM'), counted(counts['images'] ?? 0, 'image')].join(', ');
}

/** The column of problems only when there are any. */
export function formatSnapshotTable(snapshots: readonly SnapshotView[], nowMs: number = Date.now()): string {
  const columns = snapshots.some(({ problem }) => problem !== null) ? HEADER.length : CREATED + 1;
  const rows = snapshots.map((snapshot) => [
    shortDigest(snapshot.digest),
    snapshot.refs.join(',') || '-',
    String(snapshot.tableCounts['vms'] ?? 0),
    String(snapshot.tableCounts['images'] ?? 0),
    formatSizeShort(snapshot.encodedBytes),
    String(snapshot.migrationVersion),
    snapshot.controlVersion,
    timeAgo(snapshot.createdAt, nowMs),
    snapshot.problem ?? '',
  ]);
  return formatTable(
    HEADER.slice(0, columns),
    rows.map((row) => row.slice(0, columns)),
  );
}

export function formatSnapshot(
  snapshot: SnapshotView,
  more: readonly (readonly [key: string, value: string])[] = [],
): string {
  const encoded =
    snapshot.encoding === 'identity' ? '' : `, ${formatSize(snapshot.encodedBytes)} as ${snapshot.encoding}`;
  return formatPairs([
    ['digest', snapshot.digest],
    ['holds', formatCounts(snapshot.tableCounts)],
    ['size', `${formatSize(snapshot.bytes)}${encoded}`],
    ['refs', snapshot.refs.join(', ') || '-'],
    ['path', snapshot.path],
    ...more,
  ]);
}
