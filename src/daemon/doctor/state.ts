/** Checks of the state database, of restores of it and of copies made of it. The file itself is never opened. */

import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BangerError, type ErrorCode, errorText } from '../../core/errors.ts';
import { counted, formatSize } from '../../core/units.ts';
import { listDir } from '../../host/files.ts';
import { readRestorePlan, restorePlanPath } from '../../state/restore-plan.ts';
import { settleRestore } from '../../state/settle.ts';
import { type Check, failure, info, ok, type Outcome, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';
import { SNAPSHOT_CHECKS } from './snapshots.ts';
import { DATABASE_CHECKS } from './state-database.ts';
import { deadTemporaries, sweep } from './temporaries.ts';

const NOTHING_YET = 'no database yet';

/** Answers of a daemon that say nothing about its database. */
const NO_ANSWER: ReadonlySet<ErrorCode> = new Set(['unavailable', 'timeout', 'cancelled']);

const database: Check<DoctorContext> = {
  id: 'state.database',
  group: 'state',
  title: 'database',
  timeoutMs: 30_000,
  run: async (context) => {
    const path = context.stateFile;
    const verified = await context.verifiedByDaemon();
    if (verified instanceof BangerError && !NO_ANSWER.has(verified.code)) {
      return failure(`the daemon cannot verify its database: ${verified.message}`, hintOf(verified));
    }
    const accessible = await context.state();
    if (accessible.kind === 'none') return orphanOutcome(path);
    if (accessible.kind === 'unreadable') {
      const hint = { fix: `look at its owner and mode: ls -ld ${path}`, ...hintOf(accessible.error) };
      return failure(errorText(accessible.error), hint);
    }
    const size = formatSize(factsOf(path)?.sizeBytes ?? 0);
    const where = accessible.kind === 'daemon' ? ', verified by the daemon' : '';
    if (await canWrite(path)) return ok(`${path}, ${size}${where}`);
    return failure(`${path} cannot be written`, { fix: `look at its owner and mode: ls -l ${path}` });
  },
};

function hintOf(error: unknown): { readonly fix?: string } {
  return error instanceof BangerError && error.hint !== undefined ? { fix: error.hint } : {};
}

async function canWrite(path: string): Promise<boolean> {
  return await access(path, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** SQLite would take what lies beside a missing database for a part of the next one. */
function orphanOutcome(path: string): Outcome {
  const left = ['-wal', '-shm', '-journal'].filter((suffix) => (factsOf(path + suffix)?.sizeBytes ?? 0) > 0);
  if (left.length === 0) return ok(NOTHING_YET);
  const names = left.map((suffix) => basename(path) + suffix).join(', ');
  return warning(`${path} is missing, but ${names} lies there`, {
    fix: `put the database back, or move the rest away; what lies beside it: ls -l ${path}*`,
  });
}

/** A write that was killed outside of WAL mode: SQLite rolls it back when it next opens the database for writing. */
const journal: Check<DoctorContext> = {
  id: 'state.journal',
  group: 'state',
  title: 'rollback journal',
  timeoutMs: 2000,
  run: async ({ stateFile }) => {
    const facts = factsOf(`${stateFile}-journal`);
    if (facts === undefined || facts.sizeBytes === 0) return ok('none');
    return warning(
      `${facts.path} has ${facts.sizeBytes} bytes: a write was interrupted, and its beginning must be undone`,
      {
        fix: 'the next start of the daemon does: banger daemon start. Do not remove it',
      },
    );
  },
};

const restorePlan: Check<DoctorContext> = {
  id: 'state.restore-plan',
  group: 'state',
  title: 'unfinished restore',
  timeoutMs: 5000,
  run: async ({ stateFile }) => {
    try {
      const plan = await readRestorePlan(stateFile);
      if (plan === undefined) return ok('none');
      return warning(`a restore of ${plan.createdAt} did not come to its end`, {
        fix: 'the next start of the daemon finishes or undoes it, and so does: banger doctor --fix',
        repair: {
          what: `finish or undo the restore in ${restorePlanPath(stateFile)}`,
          needsLock: true,
          apply: async () => {
            await settleRestore(stateFile);
          },
        },
      });
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return failure(error.message, hintOf(error));
    }
  },
};

const temporaries: Check<DoctorContext> = {
  id: 'state.temporaries',
  group: 'state',
  title: 'temporaries of the database',
  timeoutMs: 5000,
  run: async ({ paths, stateFile }) => {
    const left = await deadTemporaries(paths.stateDir);
    if (left.length === 0) return ok('none');
    const found = `dead processes left ${left
      .map((path) => basename(path))
      .slice(0, 3)
      .join(', ')} in ${paths.stateDir}`;
    // An unfinished restore may still need one of them.
    if (factsOf(restorePlanPath(stateFile)) !== undefined) return info(`${found}; see state.restore-plan`);
    return warning(found, { fix: 'the next start of the daemon removes it', repair: sweep(paths.stateDir) });
  },
};

const OLD_MS = 30 * 24 * 60 * 60_000;

/** Made before migrations and restores. Nobody but the user may decide that they are not needed any more. */
const copies: Check<DoctorContext> = {
  id: 'state.copies',
  group: 'state',
  title: 'old copies',
  timeoutMs: 5000,
  run: async ({ paths, stateFile, host }) => {
    const prefix = `${basename(stateFile)}.pre-`;
    const names = (await listDir(paths.stateDir)).filter((name) => name.startsWith(prefix));
    const all = names.flatMap((name) => factsOf(join(paths.stateDir, name)) ?? []);
    const old = all.filter(({ mtimeMs }) => host.now() - mtimeMs > OLD_MS);
    if (old.length === 0) return ok(all.length === 0 ? 'none' : `${all.length}, none older than 30 days`);
    const size = formatSize(old.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
    const shown = old.map(({ path }) => path).join(' ');
    const copies = counted(old.length, 'copy', 'copies');
    return info(`${copies} from before migrations or restores, older than 30 days (${size})`, {
      fix: `if everything works: rm ${shown}`,
    });
  },
};

export const STATE_CHECKS: readonly Check<DoctorContext>[] = [
  database,
  journal,
  ...DATABASE_CHECKS,
  restorePlan,
  temporaries,
  copies,
  ...SNAPSHOT_CHECKS,
];
