/**
 * `banger state rebuild`: a state database from what VM and image directories say of themselves, united with the rows
 * of the one that is there, as far as it can be read. It is installed as a snapshot is restored: all of it or nothing,
 * and the database that was there is kept.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import type { StateRebuilt } from '../../../api/results/state.ts';
import { BangerError, errorText } from '../../../core/errors.ts';
import { now } from '../../../host/clock.ts';
import { acquireInstanceLock } from '../../../host/instance-lock.ts';
import { type BangerPaths, ensurePrivateDir } from '../../../host/paths.ts';
import { preparePrivateFile } from '../../../host/sqlite-file.ts';
import { bootstrap } from '../../../state/bootstrap.ts';
import { exportState, type Snapshot } from '../../../state/export.ts';
import { isDamage } from '../../../state/fold.ts';
import { readRestorePlan, restorePlanPath } from '../../../state/restore-plan.ts';
import { settleRestore } from '../../../state/settle.ts';
import { isSameTarget, lookAtTarget, type TargetFiles } from '../../../state/target-files.ts';
import { storeError } from '../../../store/errors.ts';
import { listImages, upsertImage } from '../../../store/images.ts';
import { MIGRATIONS } from '../../../store/migrations/list.ts';
import { migrate } from '../../../store/migrations/run.ts';
import { openDatabase } from '../../../store/open.ts';
import { copyPlaces, makeCopyDir, removeCopyDir } from '../../../store/private-copy.ts';
import { openReadOnlyView, type ReadOnlyView } from '../../../store/read-only-view.ts';
import { MAX_CONTROL_VERSION } from '../../../store/sql.ts';
import { listVms, setVmWorkspace, upsertVm } from '../../../store/vms.ts';
import { countLostVms } from '../../lost-state.ts';
import type { OperationHandle } from '../../operations.ts';
import { GUEST_PREFIX } from '../guests/guest-network.ts';
import { planRebuild, type RebuildPlan } from './rebuild-plan.ts';
import { findRebuildSources } from './rebuild-sources.ts';

export interface RebuildDeps {
  readonly paths: BangerPaths;
  /** Of the program, for the manifest. */
  readonly version: string;
  /** Asked once the new database is in place: what its rows name that is not on this host, as `StateRestored` has it. */
  readonly missing: () => Promise<readonly string[]>;
}

/**
 * Adds the rows that the database lacks; its own stay as they are. A database that cannot be read is replaced, and
 * kept; one that is missing is made, however few of its VMs come back. With `dryRun` not one byte is changed, and a daemon may run.
 * @throws {BangerError} `in_use` (a daemon runs, or something changed the database meanwhile), `invalid_state` (a dry run
 *   beside an unfinished restore), `version_mismatch` (of a newer program), `limit_exceeded`, `cancelled`; and what a
 *   restore throws
 */
export async function rebuildState(
  deps: RebuildDeps,
  params: { readonly dryRun: boolean },
  operation: OperationHandle,
): Promise<StateRebuilt> {
  const { paths } = deps;
  operation.progress({ step: 'read_directories', text: 'reading VM and image directories' });
  const draft = params.dryRun
    ? await draftBesideAnyone(deps, operation)
    : await draftUnderLock(deps, operation);
  const { plan, snapshot, seen, damage } = draft;
  const { added } = plan;
  const lostRows = damage === undefined ? [] : [{ path: paths.stateDb, why: damage.why }];
  const skipped = [...lostRows, ...plan.skipped];
  // Even with no row the daemon starts then, which images are built with, and leaves these VMs alone.
  const isLost = damage !== undefined || (await countLostVms(paths)) > 0;
  if (params.dryRun || (added.length === 0 && !isLost)) return { added, skipped, restored: null };
  operation.progress({ step: 'install', text: `writing ${paths.stateDb}` });
  const { data, manifestBytes } = snapshot;
  const { digest, migrationVersion, tableCounts, previous } = await bootstrap(
    data,
    manifestBytes,
    paths.stateDb,
    (database) => migrate(database, paths.stateDb, MIGRATIONS, { keepCopy: false }),
    true,
    {
      migrations: MIGRATIONS,
      lockPath: paths.lockFile,
      holder: { pid: process.pid },
      signal: operation.signal,
      // It holds the lock from here on, and held none since the rows were read.
      onStep: (step) => {
        if (step === 'check_target') assertUnchanged(paths.stateDb, seen);
      },
    },
  );
  const missing = await deps.missing();
  return { added, skipped, restored: { digest, migrationVersion, tableCounts, previous, missing } };
}

interface Draft {
  readonly plan: RebuildPlan;
  readonly snapshot: Snapshot;
  /** The database as it lay there when its rows were read. */
  readonly seen: TargetFiles;
  /** Undefined when its rows were read, or there is no database. */
  readonly damage: Damage | undefined;
}

interface Damage {
  readonly why: string;
  /** As far as it can be read; else 0. */
  readonly controlVersion: number;
}

async function draftUnderLock(deps: RebuildDeps, operation: OperationHandle): Promise<Draft> {
  const { stateDir, lockFile, stateDb } = deps.paths;
  ensurePrivateDir(stateDir);
  using _lock = await acquireInstanceLock(lockFile, { pid: process.pid });
  await settleRestore(stateDb);
  return await draftOf(deps, operation);
}

async function draftBesideAnyone(deps: RebuildDeps, operation: OperationHandle): Promise<Draft> {
  const { stateDb } = deps.paths;
  if ((await readRestorePlan(stateDb)) !== undefined) {
    throw new BangerError('invalid_state', `a restore did not come to its end: ${restorePlanPath(stateDb)}`, {
      hint: 'the next daemon, or a rebuild that is not a dry run, finishes or undoes it',
    });
  }
  return await draftOf(deps, operation);
}

/** The new database, in a private place. The old one is only read. */
async function draftOf({ paths, version }: RebuildDeps, { signal }: OperationHandle): Promise<Draft> {
  const seen = lookAtTarget(paths.stateDb);
  const found = await findRebuildSources(paths, signal);
  const dir = makeCopyDir(Number(seen.main?.size ?? 0n) * 2, copyPlaces());
  try {
    const path = join(dir, 'new.db');
    const damage = await copyReadable(paths.stateDb, path, signal);
    using database = openDatabase(path);
    // The path is for messages: users have never heard of the copy.
    migrate(database, paths.stateDb, MIGRATIONS, { keepCopy: false });
    const rows = { images: listImages(database), vms: listVms(database) };
    const plan = planRebuild(found, rows, GUEST_PREFIX);
    addRows(database, plan);
    if (damage !== undefined) raiseControlVersion(database, damage.controlVersion);
    const options = { migrations: MIGRATIONS, version, encoding: 'identity', createdAt: now() } as const;
    return { plan, snapshot: exportState(database, options), seen, damage };
  } finally {
    removeCopyDir(dir);
  }
}

/**
 * Copies every row of the database to a new one at `to`, which is not made where there is none or it is damaged.
 * @returns why it could not be read; undefined when it was, or there is none
 */
async function copyReadable(from: string, to: string, signal: AbortSignal): Promise<Damage | undefined> {
  let view: ReadOnlyView | undefined;
  try {
    view = await openReadOnlyView(from, { signal });
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'io_error') throw error;
    return { why: error.message, controlVersion: 0 };
  }
  using opened = view;
  if (opened === undefined) return undefined;
  let controlVersion = 0;
  try {
    controlVersion = Number(opened.database.prepare('PRAGMA user_version').get()?.['user_version']);
    // The view is a copy that nobody else knows; SQLite counts writing to another file as writing.
    opened.database.exec('PRAGMA query_only = OFF');
    // SQLite accepts an empty file as its target, and so keeps our mode.
    preparePrivateFile(to);
    opened.database.prepare('VACUUM INTO ?').run(to);
    return undefined;
  } catch (error) {
    if (!isDamage(error)) throw storeError(from, error);
    await rm(to, { force: true });
    return { why: `its rows cannot be read: ${errorText(error)}`, controlVersion };
  }
}

/** Each goes through the store, which raises the control version: it ends up above the old one's. */
function addRows(database: DatabaseSync, { images, vms }: RebuildPlan): void {
  for (const image of images) upsertImage(database, image);
  for (const vm of vms) {
    upsertVm(database, vm);
    setVmWorkspace(database, vm.id, vm.workspace, vm.updatedAt);
  }
}

/** It is a later state than the one that could not be read. */
function raiseControlVersion(database: DatabaseSync, above: number): void {
  const own = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  const version = Math.min(Math.max(own, above + 1), MAX_CONTROL_VERSION);
  database.exec(`PRAGMA user_version = ${version}`);
}

function assertUnchanged(dbPath: string, seen: TargetFiles): void {
  if (isSameTarget(seen, lookAtTarget(dbPath))) return;
  throw new BangerError('in_use', `${dbPath} was changed while it was being rebuilt`, {
    hint: 'nothing was replaced; try again',
  });
}
