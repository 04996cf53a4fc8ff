/**
 * State snapshots under the names of the document they were first described in: the state database as a content-addressed
 * artifact, and restoring one without ever running it against a live database. docs/state.md has the whole story.
 */

/**
 * One moment of a database as a snapshot: payload and manifest. `export(database, options)` reads in one transaction.
 */
export { exportState as export } from './export.ts';

/**
 * Whether a payload and a manifest are a snapshot for this program, before any file is made.
 * `verify(data, manifestBytes, options)` throws ErrVerify.
 */
export { verify } from './verify.ts';

/** A verified snapshot to a new database file of its own. `restoreToTempDb(snapshot, path)`. */
export { restoreToTempDb } from './restore.ts';

/** Whether there is certainly nothing to lose at a database's path. `isFresh(dbPath)` opens nothing. */
export { isFresh } from './fresh.ts';

/**
 * A snapshot into the place of the state database: all of it or nothing.
 * `await bootstrap(data, manifestBytes, dbPath, migrate, force, options)`
 */
export { bootstrap } from './bootstrap.ts';

/** `ErrVerify`: not a snapshot, or not one for this program. `ErrNotFresh`: something is there, and nobody consented. */
export { ErrNotFresh, ErrVerify } from './errors.ts';
