/** Restoring a snapshot into the place of the state database. */

import assert from 'node:assert/strict';
import { basename, dirname, join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { now } from '../host/clock.ts';
import { makeTemporaryDir, removeTree, sweepTemporaries } from '../host/files.ts';
import { acquireInstanceLock, type InstanceLock, type LockHolder } from '../host/instance-lock.ts';
import { ensurePrivateDir } from '../host/paths.ts';
import type { Migration } from '../store/migrations/migration.ts';
import { isOpenHere } from '../host/open-here.ts';
import { type BootstrapStep, type EnterStep, isCancellable } from './bootstrap-steps.ts';
import { assertConsent } from './consent.ts';
import { inspectPrevious, type Previous } from './inspect-previous.ts';
import { checkNewDatabase, type NewFacts, openTemporary, sealNewDatabase } from './new-database.ts';
import { replaceDatabase } from './replace.ts';
import { freeKeptName } from './keep-previous.ts';
import type { RestorePlan } from './restore-plan.ts';
import { restoreError } from './restore-error.ts';
import { restoreToTempDb } from './restore.ts';
import { settleRestore } from './settle.ts';
import type { FileIdentity } from './target-files.ts';
import { verify } from './verify.ts';

export interface BootstrapOptions {
  /** All of this program's. */
  readonly migrations: readonly Migration[];
  /** Of the instance lock of the directory the database is in. */
  readonly lockPath: string;
  readonly holder: LockHolder;
  /** `sha256:<hex>` the snapshot must have. */
  readonly digest?: string | undefined;
  /** `FROM:TO`, each a consent to go back from that migration or control version to this one. */
  readonly allowRollback?: readonly string[];
  /** What the user calls the snapshot, for the command an error names. Default: its digest. */
  readonly source?: string;
  /** Called at the beginning of each step, in the order of BOOTSTRAP_STEPS. */
  readonly onStep?: (step: BootstrapStep) => void;
  /** Honoured until the first change: from `write_plan` on, a restore goes to its end. */
  readonly signal?: AbortSignal;
}

export interface Restored extends NewFacts {
  /** `sha256:<hex>` of the snapshot. */
  readonly digest: string;
  /** Path of the database that was replaced; of the first of its files where it has more; null when there was none. */
  readonly previous: string | null;
  /** Why the database that was replaced could not be read, and its versions not be compared; null when they were. */
  readonly previousProblem: string | null;
}

/**
 * Puts a snapshot into the place of the database at `dbPath`. A new database is built beside the old one, brought to this
 * program's schema by `migrate` and checked; then the old one is kept as `<dbPath>.pre-restore-<time>` and the new one
 * renamed into its place. Killed at any point, settleRestore() leaves either the old database or the new one. Takes the
 * instance lock for itself: the caller must neither hold it nor have the database open.
 * @param migrate applies the migrations; the database is at the snapshot's own level and lies in a directory of its own,
 *   which is removed: a copy that is made beside it goes with it
 * @param force replace a database that is not fresh
 * @throws {ErrVerify} not a snapshot, or not one for this program: nothing was touched
 * @throws {ErrNotFresh} there is a database, and no consent to replace it or to go back: nothing was changed
 * @throws {BangerError} `in_use` (a daemon, or another program that has the database open), `cancelled`, `permission`
 *   (odd files), `invalid_state` (a plan not ours), `no_space`, `io_error`: the old database is in its place, or the message
 *   says that the new one is
 */
export async function bootstrap(
  data: Uint8Array,
  manifestBytes: Uint8Array,
  dbPath: string,
  migrate: (database: DatabaseSync) => void,
  force: boolean,
  options: BootstrapOptions,
): Promise<Restored> {
  const enter = announcer(options);
  try {
    await enter('verify');
    const { migrations, digest } = options;
    const snapshot = verify(data, manifestBytes, { migrations, ...(digest === undefined ? {} : { digest }) });
    await enter('lock');
    const dir = dirname(dbPath);
    ensurePrivateDir(dir);
    using _lock = await takeLock(options);
    await enter('settle');
    await settleRestore(dbPath);
    await enter('sweep');
    await sweepTemporaries(dir);
    await enter('check_target');
    assert(!isOpenHere(dbPath), `${dbPath} is open in this process`);
    const temporary = await makeTemporaryDir(dbPath);
    try {
      const { manifest } = snapshot;
      const previous = await inspectPrevious(dbPath, temporary);
      const { allowRollback = [], source = manifest.checksum } = options;
      assertConsent(dbPath, previous, manifest, { force, allowRollback, source });
      await enter('build');
      const path = join(temporary, basename(dbPath));
      restoreToTempDb(snapshot, path);
      const facts = await migrateNew(path, manifest, migrate, options, enter);
      await enter('seal');
      const sealed = await sealNewDatabase(path);
      const plan = planOf(dbPath, temporary, previous, sealed);
      await replaceDatabase(dbPath, path, plan, previous, enter);
      return { ...facts, digest: manifest.checksum, ...whatWas(dbPath, plan, previous) };
    } finally {
      // What is left is swept by the next restore and by the next daemon.
      await removeTree(temporary, { below: dir }).catch(() => {});
    }
  } catch (error) {
    throw restoreError(dbPath, error);
  }
}

function announcer(options: BootstrapOptions): EnterStep {
  return async (step) => {
    // Most steps block the thread: here a cancellation comes in, and what was announced goes out.
    await setImmediate();
    if (options.signal?.aborted === true && isCancellable(step)) {
      throw new BangerError('cancelled', 'the restore was cancelled; nothing was replaced');
    }
    options.onStep?.(step);
  };
}

async function takeLock({ lockPath, holder }: BootstrapOptions): Promise<InstanceLock> {
  try {
    return await acquireInstanceLock(lockPath, holder);
  } catch (error) {
    throw restoreError(lockPath, error);
  }
}

async function migrateNew(
  path: string,
  manifest: SnapshotManifest,
  migrate: (database: DatabaseSync) => void,
  options: BootstrapOptions,
  enter: EnterStep,
): Promise<NewFacts> {
  await enter('migrate');
  using database = openTemporary(path);
  migrate(database);
  await enter('check');
  return checkNewDatabase(database, manifest, options.migrations);
}

function planOf(dbPath: string, temporary: string, previous: Previous, sealed: FileIdentity): RestorePlan {
  const { main, sidecars } = previous.files;
  const common = {
    createdAt: now(),
    newInode: sealed.inode,
    oldInode: main?.inode ?? null,
    temporary: basename(temporary),
  };
  switch (previous.kind) {
    case 'none':
      return { ...common, mode: 'nothing', keptAs: null, suffixes: [] };
    case 'readable':
      return { ...common, mode: 'copy', keptAs: freeKeptName(dbPath), suffixes: [''] };
    case 'damaged': {
      const suffixes = [...(main === undefined ? [] : ['']), ...sidecars.keys()];
      return { ...common, mode: 'aside', keptAs: freeKeptName(dbPath), suffixes };
    }
  }
}

function whatWas(
  dbPath: string,
  plan: RestorePlan,
  previous: Previous,
): Pick<Restored, 'previous' | 'previousProblem'> {
  const kept = plan.keptAs === null ? null : join(dirname(dbPath), plan.keptAs) + (plan.suffixes[0] ?? '');
  return { previous: kept, previousProblem: previous.kind === 'damaged' ? previous.problem : null };
}
