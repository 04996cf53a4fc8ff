/** Points in time as tables show them. */

import { formatDuration } from '../../core/units.ts';

/** "3m12s ago" for an RFC 3339 time; "-" for one that cannot be read. */
export function timeAgo(rfc3339: string, nowMs: number = Date.now()): string {
  const ms = Date.parse(rfc3339);
  if (Number.isNaN(ms)) return '-';
  const elapsedMs = nowMs - ms;
  return elapsedMs < 1000 ? 'just now' : `${formatDuration(Math.floor(elapsedMs / 1000) * 1000)} ago`;
}
