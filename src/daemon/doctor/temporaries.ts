/** What dead processes of ours left half made: named by their pid and start, as temporaryPath of host/files.ts does. */

import { join } from 'node:path';
import { isAbandonedTemporary, listDir, sweepTemporaries } from '../../host/files.ts';
import { sweepOutside } from '../../host/outside.ts';
import type { Repair } from './check.ts';

const TEMPORARY = /^\..+\.tmp-\d+-\d+-[0-9a-f]{12}$/;

/** Paths of temporaries in `dir` whose makers are gone; sorted. */
export async function deadTemporaries(dir: string): Promise<readonly string[]> {
  return (await listDir(dir)).filter(isAbandonedTemporary).map((name) => join(dir, name));
}

export function isTemporary(name: string): boolean {
  return TEMPORARY.test(name);
}

/** The makers look after each other's, with and without a daemon. */
export function sweep(dir: string): Repair {
  return {
    what: `remove what dead processes left in ${dir}`,
    needsLock: false,
    apply: async () => {
      await sweepOutside(dir);
      await sweepTemporaries(dir);
    },
  };
}
