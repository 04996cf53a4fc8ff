/** What is staged, in one digest: two indexes with the same digest say the same of every path, whatever they know of files' times. */

import { createHash } from 'node:crypto';
import { bytesOf } from './byte-path.ts';
import type { IndexEntry } from './index-entries.ts';

/** 64 hex digits. */
export function stagedDigest(
  entries: readonly Pick<IndexEntry, 'mode' | 'oid' | 'stage' | 'path'>[],
): string {
  const hash = createHash('sha256');
  for (const { mode, oid, stage, path } of entries)
    hash.update(bytesOf(`${mode.toString(8)} ${oid} ${stage}\t${path}\0`));
  return hash.digest('hex');
}
