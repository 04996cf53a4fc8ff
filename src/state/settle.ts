/** What to do with a restore that did not come to its end: killed, out of power, or failed on the way. */

import { lstatSync } from 'node:fs';
import { rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { fileError, removeTree, syncDir } from '../host/files.ts';
import { restoreError } from './restore-error.ts';
import {
  keptFiles,
  type RestorePlan,
  readRestorePlan,
  removeRestorePlan,
  restorePlanPath,
} from './restore-plan.ts';
import { removeDeadSidecars } from './fold.ts';
import { processesWithOpen } from './open-elsewhere.ts';
import { databaseFiles, identityOf } from './target-files.ts';

/** `finished`: the new database is in place. `undone`: the old one is, as it was. */
export type SettledRestore = 'none' | 'undone' | 'finished';

/**
 * Finishes or undoes an unfinished restore from its plan: afterwards the database is either the old one or the new one,
 * and nothing else of the restore is left but what it keeps. Idempotent, and may itself be killed at any point. The
 * caller holds the instance lock and has no database open; whoever opens the state database for writing calls this first.
 * @throws {BangerError} `invalid_state`: the plan is not one of ours, or the files are not those it speaks of; nothing
 *   was changed then; `permission`, `no_space`, `io_error`
 */
export async function settleRestore(dbPath: string): Promise<SettledRestore> {
  try {
    const plan = await readRestorePlan(dbPath);
    return plan === undefined ? 'none' : await settlePlan(dbPath, plan);
  } catch (error) {
    throw restoreError(dbPath, error);
  }
}

async function settlePlan(dbPath: string, plan: RestorePlan): Promise<SettledRestore> {
  const main = identityOf(dbPath);
  if (main !== undefined && main.inode === plan.newInode) {
    await syncDir(dirname(dbPath));
    await finishRestore(dbPath, plan);
    return 'finished';
  }
  await undoRestore(dbPath, plan, main?.inode ?? null);
  return 'undone';
}

/** The last step of a restore whose new database has its name, durably. */
export async function finishRestore(dbPath: string, plan: RestorePlan): Promise<void> {
  const dir = dirname(dbPath);
  await removeTree(join(dir, plan.temporary), { below: dir });
  await removeRestorePlan(dbPath);
}

async function undoRestore(dbPath: string, plan: RestorePlan, inode: bigint | null): Promise<void> {
  const dir = dirname(dbPath);
  const isOld =
    inode === plan.oldInode ||
    // Nothing was changed: whatever is there now is not ours to judge.
    plan.mode === 'nothing' ||
    // Renamed aside; moveBack looks closer.
    (plan.mode === 'aside' && inode === null);
  if (!isOld) throw unknownDatabase(dbPath, plan);
  if (plan.mode === 'copy') await removeCopies(dbPath, plan);
  if (plan.mode === 'aside') await moveBack(dbPath, plan);
  // A fold that was killed may have begun a journal that says nothing yet.
  if (processesWithOpen(databaseFiles(dbPath)).length === 0) await removeDeadSidecars(dbPath, false);
  await syncDir(dir);
  await removeTree(join(dir, plan.temporary), { below: dir });
  await removeRestorePlan(dbPath);
}

/** What they were made from is in its place. */
async function removeCopies(dbPath: string, plan: RestorePlan): Promise<void> {
  for (const { to } of keptFiles(dbPath, plan)) {
    try {
      if (isThere(to)) await unlink(to);
    } catch (error) {
      throw fileError(`cannot remove ${to}`, error);
    }
  }
}

async function moveBack(dbPath: string, plan: RestorePlan): Promise<void> {
  const moved = keptFiles(dbPath, plan).filter(({ to }) => isThere(to));
  if (moved.some(({ from }) => isThere(from))) throw unknownDatabase(dbPath, plan);
  for (const { from, to } of moved) {
    try {
      await rename(to, from);
    } catch (error) {
      throw fileError(`cannot put ${from} back`, error);
    }
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function unknownDatabase(dbPath: string, plan: RestorePlan): BangerError {
  const path = restorePlanPath(dbPath);
  const kept = plan.keptAs === null ? '' : `; what was there may be in ${plan.keptAs}`;
  return new BangerError(
    'invalid_state',
    `${path} speaks of a restore that did not end, but ${basename(dbPath)} is neither the database it was to replace ` +
      `nor the one it was to put there${kept}`,
    { hint: `ls -li ${dbPath}*; when ${dbPath} is the database you want, remove ${path}` },
  );
}
