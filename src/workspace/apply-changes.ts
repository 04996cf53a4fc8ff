/** Puts merged files in the place of those of a working tree, as long as these are still what was merged. */

import {
  chmodSync,
  linkSync,
  lstatSync,
  readdirSync,
  renameSync,
  rmdirSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { type BytePath, bytePath, bytesOf, displayPath, parentOf } from './byte-path.ts';
import type { IndexEntry } from './index-entries.ts';
import { OpenDirectories } from './open-directories.ts';
import type { CountedChange } from './tree-change.ts';

export interface ApplyChangesOptions {
  /** Top of the working tree. */
  readonly rootPath: string;
  readonly changes: readonly CountedChange[];
  /** The new files under their own paths, on the same file system: they are moved from there. */
  readonly stagedPath: string;
  /** What was merged, with its times as they were then. */
  readonly entries: readonly IndexEntry[];
  readonly umask: number;
  readonly signal: AbortSignal;
  /** Called before each change. */
  readonly onChange: (done: number) => void;
}

const SYMLINK_MODE = 0o120000;
const EXECUTABLE_MODE = 0o100755;
const PERMISSION_BITS = 0o777;
/** Other work gets its turn between slices. */
const SLICE = 200;
/** Rather than waiting for the rest of a directory that is not the repository's. */
const MAX_IN_THE_WAY = 100_000;

/**
 * Everything is looked at before anything is changed, and each file again before it is. A file is replaced as a whole, by a
 * rename; what is only removed goes last, and with it the directories that it leaves empty.
 * @throws {BangerError} `invalid_state` (a file is no longer what was merged, or something is in the way: before the first change
 *   nothing has been done), `cancelled`, `no_space`, `permission`, `io_error`
 */
export async function applyChanges(options: ApplyChangesOptions): Promise<void> {
  using directories = new OpenDirectories(options.rootPath, PERMISSION_BITS & ~options.umask);
  const writer = new Writer(options, directories);
  const { changes } = options;
  await inSlices(changes, options.signal, (change) => writer.check(change));
  const removals = changes.filter(({ kind }) => kind === 'deleted');
  const writes = changes.filter(({ kind }) => kind !== 'deleted');
  const blocking = new Set(inTheWay(removals, writes));
  const order = [...blocking, ...writes, ...removals.filter((change) => !blocking.has(change))];
  let done = 0;
  try {
    await inSlices(order, options.signal, (change) => {
      options.onChange(done);
      writer.apply(change);
      done += 1;
    });
  } catch (error) {
    throw done > 0 && error instanceof BangerError ? partly(error, done, order.length) : error;
  }
}

function partly(cause: BangerError, done: number, total: number): BangerError {
  const hint = cause.hint ?? 'run the command again: it goes on from there';
  return new BangerError(cause.code, `${cause.message}; ${done} of ${total} files were written before`, {
    cause,
    hint: cause.code === 'no_space' ? `${hint}; then run the command again: it goes on from there` : hint,
  });
}

/** Removals of files below a path that becomes a file, and of files where a directory must be. */
function inTheWay(removals: readonly CountedChange[], writes: readonly CountedChange[]): CountedChange[] {
  const files = new Set(writes.map(({ path }) => path));
  const parents = new Set(writes.flatMap(({ path }) => ancestorsOf(path)));
  return removals.filter(
    ({ path }) => parents.has(path) || ancestorsOf(path).some((parent) => files.has(parent)),
  );
}

export function ancestorsOf(path: BytePath): BytePath[] {
  const found: BytePath[] = [];
  for (let parent = parentOf(path); parent !== ''; parent = parentOf(parent)) found.push(parent);
  return found;
}

async function inSlices<T>(items: readonly T[], signal: AbortSignal, work: (item: T) => void): Promise<void> {
  for (let at = 0; at < items.length; at += SLICE) {
    for (const item of items.slice(at, at + SLICE)) {
      if (signal.aborted) throw new BangerError('cancelled', 'applying the changes was cancelled');
      work(item);
    }
    await nextTurn();
  }
}

class Writer {
  readonly #options: ApplyChangesOptions;
  readonly #directories: OpenDirectories;
  readonly #entries: ReadonlyMap<BytePath, IndexEntry>;
  readonly #removed: ReadonlySet<BytePath>;

  constructor(options: ApplyChangesOptions, directories: OpenDirectories) {
    this.#options = options;
    this.#directories = directories;
    this.#entries = new Map(options.entries.map((entry) => [entry.path, entry]));
    const removals = options.changes.filter(({ kind }) => kind === 'deleted');
    this.#removed = new Set(removals.map(({ path }) => path));
  }

  /** Before anything is changed: is each path what was merged, and is there room for it? */
  check({ path, kind }: CountedChange): void {
    const found = this.#look(path);
    if (found?.isDirectory() === true && !this.#entries.has(path)) this.#checkDirectory(path);
    else this.#assertAsMerged(path, found);
    if (kind === 'deleted') return;
    for (const parent of ancestorsOf(path)) {
      const above = this.#look(parent);
      if (above !== undefined && !above.isDirectory() && !this.#removed.has(parent)) throw inWay(parent);
    }
  }

  apply(change: CountedChange): void {
    const { path, kind } = change;
    const found = this.#look(path);
    if (kind === 'deleted') {
      this.#assertAsMerged(path, found);
      if (found !== undefined) this.#remove(path);
      return;
    }
    // One that was full of files which are removed has gone with them; one that was empty may still be there.
    if (found?.isDirectory() === true && !this.#entries.has(path)) {
      this.#removeDirectory(path);
      this.#write(change, undefined);
    } else {
      this.#assertAsMerged(path, found);
      this.#write(change, found);
    }
  }

  #write({ path, to }: CountedChange, found: Stats | undefined): void {
    const staged = bytesOf(`${bytePath(this.#options.stagedPath)}/${path}`);
    try {
      if (to !== null && to.mode !== SYMLINK_MODE && !lstatSync(staged).isSymbolicLink())
        chmodSync(staged, this.#permissions(to.mode, found));
      const target = this.#directories.pathTo(path, true) as Buffer;
      if (found === undefined) moveToFreePlace(staged, target);
      else renameSync(staged, target);
    } catch (error) {
      if (isCode(error, 'EEXIST')) throw changed(path);
      throw fileError(`cannot write ${displayPath(path)}`, error);
    }
  }

  /** What its owner decided stays, but for whether it can be executed. */
  #permissions(mode: number, found: Stats | undefined): number {
    const isExecutable = mode === EXECUTABLE_MODE;
    if (found?.isFile() !== true) return (isExecutable ? 0o777 : 0o666) & ~this.#options.umask;
    const bits = found.mode & PERMISSION_BITS;
    return isExecutable ? bits | ((bits & 0o444) >> 2) : bits & ~0o111;
  }

  #remove(path: BytePath): void {
    try {
      unlinkSync(this.#directories.pathTo(path, false) as Buffer);
    } catch (error) {
      throw fileError(`cannot remove ${displayPath(path)}`, error);
    }
    for (const parent of ancestorsOf(path)) if (!this.#removeDirectory(parent)) return;
  }

  /** @returns whether it was empty, and is gone */
  #removeDirectory(path: BytePath): boolean {
    const full = this.#directories.pathTo(path, false);
    if (full === undefined) return false;
    try {
      rmdirSync(full);
    } catch (error) {
      if (['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EBUSY'].some((code) => isCode(error, code))) return false;
      throw fileError(`cannot remove the directory ${displayPath(path)}`, error);
    }
    this.#directories.forget(path);
    return true;
  }

  #look(path: BytePath): Stats | undefined {
    const full = this.#directories.pathTo(path, false);
    return full === undefined ? undefined : lookAt(full, path);
  }

  /** A directory in whose place a file comes: only what is removed may be in it. */
  #checkDirectory(path: BytePath): void {
    let left = MAX_IN_THE_WAY;
    const walk = (dir: BytePath): void => {
      const full = this.#directories.pathTo(`${dir}/x`, false);
      if (full === undefined) return;
      for (const name of readdirSync(full.subarray(0, -2), { encoding: 'buffer' })) {
        const child = `${dir}/${name.toString('latin1')}`;
        left -= 1;
        if (left < 0) throw inWay(path);
        if (this.#look(child)?.isDirectory() === true) walk(child);
        else if (!this.#removed.has(child)) throw inWay(child);
      }
    };
    walk(path);
  }

  #assertAsMerged(path: BytePath, found: Stats | undefined): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) {
      if (found !== undefined) throw inWay(path);
      return;
    }
    if (found === undefined && entry.skipWorktree) return;
    const known = entry.stat;
    const same =
      found !== undefined &&
      known !== undefined &&
      known.mtimeMs === found.mtimeMs &&
      // To git whole seconds are the same time: it leaves such an entry as it is.
      Math.floor(known.ctimeMs / 1000) === Math.floor(found.ctimeMs / 1000) &&
      known.sizeBytes === found.size % 2 ** 32 &&
      known.ino === found.ino % 2 ** 32;
    if (!same) throw changed(path);
  }
}

function lookAt(full: Buffer, path: BytePath): Stats | undefined {
  try {
    return lstatSync(full, { throwIfNoEntry: false });
  } catch (error) {
    if (isCode(error, 'ENOTDIR')) return undefined;
    throw fileError(`cannot look at ${displayPath(path)}`, error);
  }
}

/** A rename that replaces nothing, also nothing that came meanwhile. */
function moveToFreePlace(from: Buffer, to: Buffer): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EMLINK', 'ENOSYS'].some((code) => isCode(error, code))) throw error;
    // A file system without links.
    renameSync(from, to);
    return;
  }
  unlinkSync(from);
}

function inWay(path: BytePath): BangerError {
  return new BangerError('invalid_state', `${displayPath(path)} is in the way, and git does not track it`, {
    hint: 'move it away and run the command again; what was written by then stays, and is right',
  });
}

function changed(path: BytePath): BangerError {
  return new BangerError('invalid_state', `${displayPath(path)} has changed while it was being merged`, {
    hint: 'run the command again: it merges what is there then; what was written by then stays, and is right',
  });
}

function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code;
}
