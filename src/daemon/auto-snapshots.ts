/**
 * Snapshots of the state that nobody asked for: before a migration, and once an interval while it changes. A failing one
 * is logged, and never in the way of the daemon.
 */

import type { DatabaseSync } from 'node:sqlite';
import { LATEST } from '../state/snapshot-names.ts';
import { exportState, type Snapshot } from '../state/export.ts';
import type { SnapshotCollection, SnapshotEntry } from '../state/snapshot-collection.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import type { StateSource } from '../store/state-source.ts';
import type { Log } from '../host/log.ts';

export interface AutoSnapshotDeps {
  readonly collection: SnapshotCollection;
  readonly log: Log;
  /** Of the program, for manifests. */
  readonly version: string;
}

/** Of the periodic ones, the newest that stay. */
const KEEP = 7;
const PERIODIC = /^auto-(\d{4}-\d\d-\d\dT)(\d\d)(\d\d)(\d\dZ)$/;
/** Due is looked at this often, or at each interval when that is shorter. */
const MAX_CHECK_MS = 60 * 60 * 1000;

/** Sorts as text, and is no digest: `2026-01-31T120000Z`. */
function stamp(at: Date): string {
  return at.toISOString().replaceAll(':', '').replace(/\.\d+/, '');
}

/** When a periodic snapshot was taken, by a ref of it; undefined: another kind of ref. */
function takenAt(ref: string): number | undefined {
  const match = PERIODIC.exec(ref);
  return match === null ? undefined : Date.parse(`${match[1]}${match[2]}:${match[3]}:${match[4]}`);
}

/** Nothing but periodic refs, and what moves by itself: one that was kept for anything else is not counted. */
function isPeriodic({ refs }: SnapshotEntry): boolean {
  const named = refs.filter((ref) => ref !== LATEST);
  return named.length > 0 && named.every((ref) => takenAt(ref) !== undefined);
}

/**
 * The state before its first pending migration. Read when openStore says so, which cannot wait for a disk, and put into
 * the collection once the store is open or has failed to; what a crash in between loses is in `state.db.pre-<id>`.
 */
export class MigrationSnapshot {
  readonly #deps: AutoSnapshotDeps;
  #taken: { readonly snapshot: Snapshot; readonly ref: string } | undefined;

  constructor(deps: AutoSnapshotDeps) {
    this.#deps = deps;
  }

  /** For openStore. Never throws: the copy that migrate made is there anyhow. */
  readonly beforeFirst = (database: DatabaseSync, firstPendingId: number): void => {
    try {
      const at = new Date();
      const snapshot = exportState(database, optionsAt(at, this.#deps.version));
      this.#taken = { snapshot, ref: `auto-before-migration-${firstPendingId}-${stamp(at)}` };
    } catch (error) {
      // A database of the Go program is not of one of our schemas until it is migrated.
      this.#deps.log.warn(
        { err: error, migration: firstPendingId },
        `no snapshot before the migration; a copy of the database is kept as state.db.pre-${firstPendingId}`,
      );
    }
  };

  /** Puts what was taken into the collection, if anything was. */
  async keep(): Promise<void> {
    const { collection, log } = this.#deps;
    if (this.#taken === undefined) return;
    const { snapshot, ref } = this.#taken;
    this.#taken = undefined;
    try {
      const { digest } = await collection.put(snapshot, [ref, LATEST]);
      log.info({ digest, ref }, 'took a snapshot of the state before its migration');
    } catch (error) {
      log.warn({ err: error, ref }, 'could not keep the snapshot taken before the migration');
    }
  }
}

function optionsAt(at: Date, version: string) {
  return { migrations: MIGRATIONS, version, encoding: 'identity', createdAt: at.toISOString() } as const;
}

export interface PeriodicSnapshotDeps extends AutoSnapshotDeps {
  readonly source: StateSource;
  /** 0: never. */
  readonly intervalMs: number;
  /** Default: the host's clock. */
  readonly now?: () => Date;
}

/** What one look led to. */
export type PeriodicOutcome = 'not due' | 'unchanged' | 'empty' | 'taken';

/**
 * Takes a snapshot when the newest periodic one is older than the interval and the state is not as it was then, and
 * removes periodic ones beyond the newest seven. A state without VMs and images is nothing to keep.
 * @throws {BangerError} what exportState and the collection throw
 */
export async function takePeriodicSnapshot(deps: PeriodicSnapshotDeps): Promise<PeriodicOutcome> {
  const { collection, source, log, version, intervalMs } = deps;
  const at = deps.now?.() ?? new Date();
  const newest = newestOf(await collection.list(), at);
  if (newest !== undefined && at.getTime() - newest.takenAt < intervalMs) return 'not due';
  const snapshot = await source.read((database) => exportState(database, optionsAt(at, version)));
  if (snapshot === undefined || isEmpty(snapshot)) return 'empty';
  if (snapshot.manifest.checksum === newest?.digest) return 'unchanged';
  const ref = `auto-${stamp(at)}`;
  const { digest } = await collection.put(snapshot, [ref, LATEST]);
  const removed = await collection.prune({ keep: KEEP, dryRun: false, among: isPeriodic });
  log.info({ digest, ref, removed: removed.length }, 'took a snapshot of the state');
  return 'taken';
}

interface Newest {
  readonly digest: string;
  readonly takenAt: number;
}

/** One from the future is of a clock that was wrong, and does not count. */
function newestOf(entries: readonly SnapshotEntry[], now: Date): Newest | undefined {
  const all = entries
    .filter(({ problem }) => problem === undefined)
    .flatMap(({ digest, refs }) =>
      refs.flatMap((ref) => {
        const at = takenAt(ref);
        return at === undefined || at > now.getTime() ? [] : [{ digest, takenAt: at }];
      }),
    );
  return all.sort((a, b) => b.takenAt - a.takenAt)[0];
}

function isEmpty({ manifest }: Snapshot): boolean {
  const { images = 0, vms = 0 } = manifest.table_counts;
  return images + vms === 0;
}

/** Looks at once and then at intervals. Returns the way to end it, which waits for a snapshot under way. */
export function startPeriodicSnapshots(deps: PeriodicSnapshotDeps): () => Promise<void> {
  if (deps.intervalMs === 0) return async () => undefined;
  let running: Promise<void> | undefined;
  const look = (): void => {
    running ??= takePeriodicSnapshot(deps)
      .then(() => undefined)
      .catch((error: unknown) => deps.log.warn({ err: error }, 'could not take a snapshot of the state'))
      .finally(() => {
        running = undefined;
      });
  };
  look();
  const timer = setInterval(look, Math.min(deps.intervalMs, MAX_CHECK_MS));
  timer.unref();
  return async () => {
    clearInterval(timer);
    await running;
  };
}
