/** A state directory whose database is gone while its VMs are not. */

import { lstat } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { counted } from '../core/units.ts';
import { fileError } from '../host/files.ts';
import type { BangerPaths } from '../host/paths.ts';
import { SnapshotCollection } from '../state/snapshot-collection.ts';
import { LATEST } from '../state/snapshot-names.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { listVmDirs } from './vm-record-file.ts';

/**
 * To be called before a database is made: with a new, empty one all these VMs would be without rows, and the names and
 * addresses of new ones would collide with theirs.
 * @throws {BangerError} `invalid_state`: there is no database, and VMs lie there
 */
export async function assertStateNotLost(paths: BangerPaths): Promise<void> {
  const { stateDb, vmsDir } = paths;
  const count = await countLostVms(paths);
  if (count === 0) return;
  const vms = counted(count, 'VM lies', 'VMs lie');
  const rebuild = '`banger state rebuild` makes it anew from what they say of themselves';
  const restore = `; \`banger state bootstrap ${LATEST}\` restores the last snapshot`;
  throw new BangerError('invalid_state', `${stateDb} is missing or empty, but ${vms} in ${vmsDir}`, {
    hint: rebuild + ((await hasSnapshot(paths)) ? restore : ''),
  });
}

/** VMs that lie there without a database; 0 when there is one. */
export async function countLostVms({ stateDb, vmsDir }: BangerPaths): Promise<number> {
  if (!(await isMissingOrEmpty(stateDb))) return 0;
  return (await listVmDirs(vmsDir)).filter(({ recorded }) => recorded).length;
}

async function hasSnapshot({ snapshotsDir }: BangerPaths): Promise<boolean> {
  try {
    const entries = await new SnapshotCollection(snapshotsDir, MIGRATIONS).list();
    return entries.some(({ refs, problem }) => refs.includes(LATEST) && problem === undefined);
  } catch {
    return false;
  }
}

/** A size of 0 is what is left when a crash met the making of the file. Looked at, never opened: SQLite's locks. */
async function isMissingOrEmpty(path: string): Promise<boolean> {
  try {
    const stat = await lstat(path);
    return stat.isFile() && stat.size === 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    throw fileError(`cannot look at ${path}`, error);
  }
}
