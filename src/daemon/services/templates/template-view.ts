/** Templates as clients see them. */

import type { TemplateView } from '../../../api/results/image.ts';
import type { ListedTemplate } from './template-service.ts';

const SHORT_KEY = 12;

export function templateView({ key, manifest, allocatedBytes, usedAt }: ListedTemplate): TemplateView {
  const { vcpus, memoryMib, accelerator, machine, createdAt } = manifest;
  const short = key.slice(0, SHORT_KEY);
  return { key: short, vcpus, memoryMib, accelerator, machine, allocatedBytes, createdAt, usedAt };
}
