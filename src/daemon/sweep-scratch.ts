/** Before serving: what an earlier daemon had begun and not finished goes, in its scratch directory and beside files of users. */

import { join } from 'node:path';
import { isAbandonedTemporary, listDir, removeTree } from '../host/files.ts';
import type { Log } from '../host/log.ts';
import { sweepOutside } from '../host/outside.ts';

/** Programs that the dead daemon ran may still write for a moment. What they leave by it is removed by the next sweep. */
export async function sweepScratch(scratchDir: string, log: Log): Promise<void> {
  for (const { path, error } of await sweepOutside(scratchDir)) {
    if (error === undefined) log.info({ path }, 'swept an unfinished file');
    else log.warn({ path, err: error }, 'could not remove an unfinished file');
  }
  for (const name of await listDir(scratchDir)) {
    if (!isAbandonedTemporary(name)) continue;
    const path = join(scratchDir, name);
    await removeTree(path, { below: scratchDir }).catch((error: unknown) =>
      log.warn({ path, err: error }, 'could not remove unfinished work'),
    );
  }
}
