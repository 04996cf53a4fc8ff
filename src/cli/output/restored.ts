/** What a restore did, and what is to be done after it. */

import type { StateRestored } from '../../api/results/state.ts';
import { formatCounts } from './snapshots.ts';
import { formatPairs, printable } from './table.ts';

export function formatRestored(restored: StateRestored): string {
  const facts = formatPairs([
    ['restored', restored.digest],
    ['holds', formatCounts(restored.tableCounts)],
    ['schema', String(restored.migrationVersion)],
    ['replaced', restored.previous ?? 'nothing: there was no state'],
  ]);
  const missing = restored.missing.map((sentence) => `  ${printable(sentence)}\n`).join('');
  return `${facts}${missing === '' ? '' : `missing on this host:\n${missing}`}next: banger doctor\n`;
}
