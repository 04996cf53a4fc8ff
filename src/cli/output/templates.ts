/** Templates of booted guests, as image commands show them. */

import type { TemplateView } from '../../api/results/image.ts';
import { formatSize } from '../../core/units.ts';
import { timeAgo } from './times.ts';

/** `3f2a9c01d4e5 | 2 vcpu | 2048 MiB | tcg, microvm | 98.5 MiB on disk | made 3m ago, used 5s ago` */
export function formatTemplate(template: TemplateView): string {
  const { key, vcpus, memoryMib, accelerator, machine, allocatedBytes, createdAt, usedAt } = template;
  const times = `made ${timeAgo(createdAt)}, used ${timeAgo(usedAt)}`;
  const platform = `${accelerator}, ${machine}`;
  return [
    key,
    `${vcpus} vcpu`,
    `${memoryMib} MiB`,
    platform,
    `${formatSize(allocatedBytes)} on disk`,
    times,
  ].join(' | ');
}
