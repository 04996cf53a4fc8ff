/** Before serving: what an earlier daemon had begun and not finished goes, in its scratch directory and beside files of users. */

import { join } from 'node:path';
import { isAbandonedTemporary, listDir } from '../host/files.ts';
import type { Log } from '../host/log.ts';
import { removeUnused, sweepOutside } from '../host/outside.ts';

export async function sweepScratch(scratchDir: string, log: Log): Promise<void> {
  const swept = [...(await sweepOutside(scratchDir))];
  for (const name of await listDir(scratchDir)) {
    if (!isAbandonedTemporary(name)) continue;
    const path = join(scratchDir, name);
    await removeUnused(path, scratchDir);
    swept.push(path);
  }
  if (swept.length > 0) log.info({ swept }, 'swept what was not finished');
}
