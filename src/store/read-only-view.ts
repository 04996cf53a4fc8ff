/**
 * Looking into a database without touching it: SQLite changes files even when it only reads (it makes -wal and -shm,
 * rewrites -shm, or does not see rows that were not checkpointed), so it gets a private copy.
 */

import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../core/errors.ts';
import { attemptCopy } from './copy-attempt.ts';
import { storeError } from './errors.ts';
import { isOpenHere } from '../host/open-here.ts';
import { copyPlaces, makeCopyDir, removeCopyDir } from './private-copy.ts';

/** A copy of one moment, un-checkpointed commits included; nothing can be written to it. Disposing removes it. */
export interface ReadOnlyView {
  readonly database: DatabaseSync;
  [Symbol.dispose](): void;
}

export interface ViewOptions {
  /** How long to try against writers. Default 5,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Directories for the copy, best first. Default: memory, then the temporary directory. */
  readonly places?: readonly string[];
}

const TIMEOUT_MS = 5000;
/** How long files may look like a write in progress before they are taken for what a dead writer left. */
const SETTLE_MS = 250;
const MAX_WAIT_MS = 32;

/**
 * A view of the database at `path`, of which not one byte changes, nor the listing of its directory. Undefined when
 * there is none. The copy itself is made synchronously: 100 MB take some 100 ms.
 * Not to be called in a process that has the database open: a programmer error, see open-here.ts.
 * @throws {BangerError} `invalid_state` (a rollback journal must be rolled back first), `unavailable` (always being
 *   written, or its copy cannot be), `permission` (unreadable, or not a regular file), `limit_exceeded` (over 4 GiB), `no_space` (for the
 *   copy), `io_error` (not a database, damaged, a -wal without its database); each names the original
 */
export async function openReadOnlyView(
  path: string,
  options: ViewOptions = {},
): Promise<ReadOnlyView | undefined> {
  const attempts = attemptViews(path, options);
  for (;;) {
    const step = attempts.next();
    if (step.done === true) return step.value;
    await sleep(step.value);
    if (options.signal?.aborted === true) {
      attempts.return(undefined);
      throw new BangerError('cancelled', `reading ${path} was cancelled`);
    }
  }
}

/** As `openReadOnlyView`, blocking the thread between attempts. */
export function openReadOnlyViewSync(path: string, options: ViewOptions = {}): ReadOnlyView | undefined {
  const attempts = attemptViews(path, options);
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    const step = attempts.next();
    if (step.done === true) return step.value;
    Atomics.wait(never, 0, 0, step.value);
  }
}

/** Yields how many milliseconds to wait before the next attempt. */
function* attemptViews(
  path: string,
  options: ViewOptions,
): Generator<number, ReadOnlyView | undefined, void> {
  assert(!isOpenHere(path), `${path} is open in this process: reading it as a file would drop its locks`);
  const begin = performance.now();
  let unreadableSince: number | undefined;
  let dir: string | undefined;
  const places = options.places ?? copyPlaces();
  const dirFor = (bytes: number): string => (dir ??= makeCopyDir(bytes, places));
  try {
    for (let attempt = 0; ; attempt += 1) {
      const result = attemptCopy(path, dirFor);
      if (result.outcome === 'absent') return undefined;
      if (result.outcome === 'copied') {
        const view = viewOf(path, result.copy, dirFor(0));
        dir = undefined;
        return view;
      }
      const now = performance.now();
      if (result.outcome === 'moved') unreadableSince = undefined;
      else if (now - (unreadableSince ??= now) > SETTLE_MS) throw result.error;
      if (now - begin > (options.timeoutMs ?? TIMEOUT_MS)) throw alwaysWritten(path);
      // Not in step with a writer that has a rhythm of its own.
      yield Math.ceil(Math.random() * Math.min(MAX_WAIT_MS, 2 ** (attempt + 2)));
    }
  } finally {
    if (dir !== undefined) removeCopyDir(dir);
  }
}

function alwaysWritten(path: string): BangerError {
  return new BangerError(
    'unavailable',
    `${path} is being written all the time: no moment to read it was found`,
    {
      hint: 'try again',
    },
  );
}

/** Exclusive locking: nobody else knows the copy, and SQLite needs no -shm then. */
const PRAGMAS = `
  PRAGMA locking_mode = EXCLUSIVE;
  PRAGMA synchronous = OFF;
  PRAGMA temp_store = MEMORY;
  PRAGMA mmap_size = 0;
  PRAGMA trusted_schema = OFF;
  PRAGMA cell_size_check = ON;
  PRAGMA query_only = ON;
`;

function viewOf(path: string, copy: string, dir: string): ReadOnlyView {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(copy, { timeout: 0, enableDoubleQuotedStringLiterals: false });
    database.enableDefensive(true);
    database.exec(PRAGMAS);
    database.prepare('SELECT count(*) FROM sqlite_schema').get();
  } catch (error) {
    database?.close();
    throw viewError(path, copy, error);
  }
  const opened = database;
  return {
    database: opened,
    [Symbol.dispose]: () => {
      if (opened.isOpen) opened.close();
      removeCopyDir(dir);
    },
  };
}

/** https://www.sqlite.org/rescode.html: SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGE: ReadonlySet<number> = new Set([11, 26]);

/**
 * The user has never heard of the copy. What is wrong with the copy's own place is no damage of the original, and must
 * not look like it.
 */
function viewError(path: string, copy: string, error: unknown): unknown {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  if (typeof code !== 'number') return error;
  if (DAMAGE.has(code & 0xff)) return storeError(path, error);
  const detail = errorText(error).replaceAll(copy, path);
  return new BangerError('unavailable', `cannot open a copy of ${path}: ${detail}`, { cause: error });
}
