/** The steps of a restore that change something: between the plan's writing and its removal. */

import { rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import { fileError, syncDir } from '../host/files.ts';
import type { EnterStep } from './bootstrap-steps.ts';
import { ErrNotFresh } from './errors.ts';
import { foldInPlace, removeDeadSidecars } from './fold.ts';
import type { Previous } from './inspect-previous.ts';
import { keepPrevious } from './keep-previous.ts';
import { assertNotOpen } from './open-elsewhere.ts';
import { restoreError } from './restore-error.ts';
import { type RestorePlan, restorePlanPath, writeRestorePlan } from './restore-plan.ts';
import { finishRestore, settleRestore } from './settle.ts';
import {
  type FileIdentity,
  isEmptyTarget,
  isSameFile,
  isSameTarget,
  lookAtTarget,
  type TargetFiles,
} from './target-files.ts';

/**
 * Puts the finished database `path` into the place of `dbPath`. What fails before the rename is undone.
 * @throws {BangerError} `in_use`, `cancelled`, `no_space`, `permission`, `io_error`; `not_fresh`: there was nothing to keep,
 *   and now there is
 */
export async function replaceDatabase(
  dbPath: string,
  path: string,
  plan: RestorePlan,
  previous: Previous,
  enter: EnterStep,
): Promise<void> {
  let replaced = false;
  try {
    await enter('write_plan');
    await writeRestorePlan(dbPath, plan);
    await enter('fold');
    const folded = await fold(dbPath, plan, previous);
    await enter('keep_previous');
    await keepPrevious(dbPath, plan);
    await enter('recheck');
    assertNotOpen(dbPath);
    assertOnly(dbPath, previous, folded);
    await enter('rename');
    await renameInto(path, dbPath);
    replaced = true;
    await enter('sync_directory');
    await syncDir(dirname(dbPath));
    await enter('remove_plan');
    await finishRestore(dbPath, plan);
  } catch (error) {
    throw await settleFailed(dbPath, error, replaced);
  }
}

/** Returns the one file that must be there until the rename; undefined: none may be. */
async function fold(
  dbPath: string,
  plan: RestorePlan,
  previous: Previous,
): Promise<FileIdentity | undefined> {
  assertUnchanged(dbPath, previous, lookAtTarget(dbPath));
  switch (plan.mode) {
    case 'nothing':
      if (previous.files.sidecars.size > 0) assertNotOpen(dbPath);
      await removeDeadSidecars(dbPath, false);
      return previous.files.main;
    case 'copy':
      return await foldInPlace(dbPath);
    case 'aside':
      // A fold would meet the locks of a program that works with the database; a rename meets nothing.
      assertNotOpen(dbPath);
      return undefined;
  }
}

function assertUnchanged(dbPath: string, previous: Previous, files: TargetFiles): void {
  if (!isSameTarget(previous.files, files)) throw changedMeanwhile(dbPath, previous, files);
}

function assertOnly(dbPath: string, previous: Previous, main: FileIdentity | undefined): void {
  const files = lookAtTarget(dbPath);
  if (isSameFile(main, files.main) && files.sidecars.size === 0) return;
  throw changedMeanwhile(dbPath, previous, files);
}

function changedMeanwhile(dbPath: string, previous: Previous, files: TargetFiles): BangerError {
  if (previous.kind === 'none' && !isEmptyTarget(files)) {
    return new ErrNotFresh(
      `${dbPath} is not fresh any more: something was written to it during the restore`,
      {
        hint: `look at it: ls -l ${dbPath}*`,
      },
    );
  }
  return new BangerError('in_use', `${dbPath} was changed by another program during the restore`, {
    hint: `fuser ${dbPath} finds one that has it open`,
  });
}

async function renameInto(path: string, dbPath: string): Promise<void> {
  try {
    await rename(path, dbPath);
  } catch (error) {
    throw fileError(`cannot rename ${path} to ${dbPath}`, error);
  }
}

/** Leaves the old database or the new one, and says which. */
async function settleFailed(dbPath: string, thrown: unknown, replaced: boolean): Promise<unknown> {
  const error = restoreError(dbPath, thrown);
  const { code, text } =
    error instanceof BangerError
      ? { code: error.code, text: error.message }
      : { code: 'internal' as const, text: errorText(error) };
  const done = `${dbPath} is replaced, but: ${text}`;
  try {
    const settled = await settleRestore(dbPath);
    if (!replaced && settled !== 'finished') return error;
  } catch (cause) {
    const message = `${replaced ? done : text}; what was begun stays for now: ${errorText(cause)}`;
    return new BangerError(code, message, {
      hint: `the next start of the daemon, or the next restore, settles it from ${restorePlanPath(dbPath)}`,
      cause: thrown,
    });
  }
  return new BangerError(code, done, {
    hint: 'banger state verify looks at what is there now',
    cause: thrown,
  });
}
