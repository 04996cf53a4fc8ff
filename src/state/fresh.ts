/** Whether a restore may go ahead without anybody's consent. */

import { identityOf, isEmptyTarget, lookAtTarget } from './target-files.ts';
import { restorePlanPath } from './restore-plan.ts';

/**
 * True only when there is certainly nothing to lose: no database or an empty one, nothing of one in a -wal, -shm or
 * -journal, and no restore under way. What cannot be looked at, and what is no regular file, is not fresh. Opens nothing.
 */
export function isFresh(dbPath: string): boolean {
  try {
    return identityOf(restorePlanPath(dbPath)) === undefined && isEmptyTarget(lookAtTarget(dbPath));
  } catch {
    return false;
  }
}
