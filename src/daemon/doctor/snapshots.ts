/** Checks of the local collection of state snapshots. */

import { BangerError, errorText } from '../../core/errors.ts';
import { counted, formatDuration } from '../../core/units.ts';
import { SnapshotCollection, type SnapshotEntry } from '../../state/snapshot-collection.ts';
import { verify } from '../../state/verify.ts';
import { MIGRATIONS } from '../../store/migrations/list.ts';
import { type Check, failure, info, ok, type Outcome, orOk } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';

const OLD_MS = 30 * 24 * 60 * 60_000;
const FIX = 'remove it (a later banger state prune does, too), then: banger state export';

function collection({ paths }: DoctorContext): SnapshotCollection {
  return new SnapshotCollection(paths.snapshotsDir, MIGRATIONS);
}

/** What a person would call it. */
function nameOf({ digest, refs }: SnapshotEntry): string {
  return digest === '' ? `ref ${refs.join(', ')}` : `snapshot ${digest.slice(0, 'sha256:'.length + 12)}`;
}

const snapshots: Check<DoctorContext> = {
  id: 'state.snapshots',
  group: 'state',
  title: 'snapshots',
  timeoutMs: 15_000,
  run: async (context) => {
    const entries = await collection(context).list();
    const problems = entries.flatMap((entry) =>
      entry.problem === undefined ? [] : [failure(`${nameOf(entry)}: ${entry.problem}`, { fix: FIX })],
    );
    const good = entries.filter(({ problem }) => problem === undefined);
    return [ageOutcome(good, context), ...problems];
  },
};

/** `entries`: newest first. */
function ageOutcome(entries: readonly SnapshotEntry[], { stateFile, host }: DoctorContext): Outcome {
  const [newest] = entries;
  if (newest === undefined) {
    if (factsOf(stateFile) === undefined) return ok('none, and no database yet');
    return info('there is none: what is lost with the database is lost', { fix: 'banger state export' });
  }
  const ageMs = Math.max(0, host.now() - Date.parse(newest.createdAt));
  const found = `${entries.length}, the newest ${formatDuration(ageMs)} old`;
  return ageMs <= OLD_MS ? ok(found) : info(found, { fix: 'banger state export' });
}

/** Everything but restoring them. */
const digests: Check<DoctorContext> = {
  id: 'state.snapshot-digests',
  group: 'state',
  title: 'digests of snapshots',
  timeoutMs: 10 * 60_000,
  deep: true,
  alone: true,
  run: async (context, signal) => {
    const all = collection(context);
    const good = (await all.list()).filter(({ problem }) => problem === undefined);
    const problems: Outcome[] = [];
    for (const [done, entry] of good.entries()) {
      signal.throwIfAborted();
      const text = `reading ${entry.path}`;
      context.progress({ step: 'state.snapshot-digests', text, done, total: good.length, unit: 'items' });
      const { digest } = entry;
      try {
        const { data, manifestBytes } = await all.read(digest);
        verify(data, manifestBytes, { migrations: MIGRATIONS, digest });
      } catch (error) {
        // Pruned a moment ago.
        if (error instanceof BangerError && error.code === 'not_found') continue;
        problems.push(failure(`${nameOf(entry)}: ${errorText(error)}`, { fix: FIX }));
      }
    }
    return orOk(
      problems,
      good.length === 0
        ? 'nothing to read'
        : counted(good.length, 'is as it was made', 'are as they were made'),
    );
  },
};

export const SNAPSHOT_CHECKS: readonly Check<DoctorContext>[] = [snapshots, digests];
