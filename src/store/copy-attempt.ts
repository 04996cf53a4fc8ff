/**
 * One attempt at a consistent copy of a database that others may be writing, without SQLite and without a lock.
 *
 * With a -wal: its header changes before any of its frames is overwritten (the salts are new for each generation), and
 * what a checkpointer writes into the database stays in the -wal until then (https://sqlite.org/fileformat2.html,
 * section 4). So header, database, -wal, header again: equal headers of one and the same inode mean that the copied
 * -wal repairs every page of the copied database that moved meanwhile.
 *
 * Without one: the database is written only while there is a -wal or a rollback journal. Its times are read before the
 * others are seen to be absent, so every later write moves them; times too fresh to tell two writes apart do not count.
 */

import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';

/** What an attempt has done when `onStep` is called, in this order. */
export const COPY_STEPS = ['looked', 'opened', 'header', 'database', 'wal', 'header-again'] as const;
export type CopyStep = (typeof COPY_STEPS)[number];

export type CopyAttempt =
  | { readonly outcome: 'copied'; readonly copy: string }
  /** There is no database. */
  | { readonly outcome: 'absent' }
  /** Somebody wrote meanwhile, or an instant ago. */
  | { readonly outcome: 'moved' }
  /** No reader can make sense of these files; but a writer may be between two steps. */
  | { readonly outcome: 'unreadable'; readonly error: BangerError };

/** Beyond this a state database is not ours. */
export const MAX_COPY_BYTES = 4 * 1024 ** 3;
const CHUNK_BYTES = 1024 * 1024;
const WAL_HEADER_BYTES = 32;

/** Longer than a tick of any kernel's coarse clock, which is what file times come from. */
const FRESH_MS = 20;
/** File systems without sub-second times: no nanoseconds at all. */
const FRESH_COARSE_MS = 2000;

interface Files {
  readonly database: BigIntStats | undefined;
  readonly wal: BigIntStats | undefined;
  readonly journal: BigIntStats | undefined;
}

/**
 * Copies `path` and its -wal into the directory that `dirFor` names for their size in bytes. `onStep` is for tests: what
 * others do to the files may come between any two steps.
 * @throws {BangerError} `permission`, `limit_exceeded` (over 4 GiB), `no_space` and `unavailable` (of the copy), `io_error`
 */
export function attemptCopy(
  path: string,
  dirFor: (bytes: number) => string,
  onStep: (step: CopyStep) => void = () => {},
): CopyAttempt {
  const before = look(path);
  const verdict = judge(path, before);
  if (verdict !== undefined) return verdict;
  const bytes = Number(before.database?.size ?? 0n) + Number(before.wal?.size ?? 0n);
  assertSize(path, bytes);
  const copy = `${dirFor(bytes)}/state.db`;
  onStep('looked');
  const source = openSource(path);
  if (source === undefined) return { outcome: 'moved' };
  try {
    const walSource = before.wal === undefined ? undefined : openSource(`${path}-wal`);
    try {
      return copyBetween(path, before, { source, walSource, copy, onStep })
        ? { outcome: 'copied', copy }
        : { outcome: 'moved' };
    } finally {
      if (walSource !== undefined) closeSync(walSource);
    }
  } finally {
    closeSync(source);
  }
}

/** The order matters: see the top of this file. */
function look(path: string): Files {
  return { database: statOf(path), wal: statOf(`${path}-wal`), journal: statOf(`${path}-journal`) };
}

function statOf(path: string): BigIntStats | undefined {
  try {
    const stat = lstatSync(path, { bigint: true });
    if (stat.isFile()) return stat;
    const link = stat.isSymbolicLink() ? ', but a symbolic link' : '';
    throw new BangerError('permission', `refusing to read ${path}: it is not a regular file${link}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(`cannot read ${path}`, error);
  }
}

/** What the three files alone say; undefined: worth copying. */
function judge(path: string, { database, wal, journal }: Files): CopyAttempt | undefined {
  if (hasBytes(journal)) return { outcome: 'unreadable', error: hotJournal(path) };
  if (!hasBytes(database) && hasBytes(wal))
    return { outcome: 'unreadable', error: orphanWal(path, wal?.size) };
  if (database === undefined) return { outcome: 'absent' };
  if (!hasWalHeader(wal) && isFresh(database)) return { outcome: 'moved' };
  return undefined;
}

function hasBytes(stat: BigIntStats | undefined): boolean {
  return stat !== undefined && stat.size > 0n;
}

function hasWalHeader(stat: BigIntStats | undefined): boolean {
  return stat !== undefined && stat.size >= WAL_HEADER_BYTES;
}

/** A second write within one tick of the clock would leave the times as they are. */
function isFresh(stat: BigIntStats): boolean {
  const newestNs = stat.mtimeNs > stat.ctimeNs ? stat.mtimeNs : stat.ctimeNs;
  const ageMs = Date.now() - Number(newestNs / 1_000_000n);
  const coarse = stat.ctimeNs % 1_000_000_000n === 0n;
  return Math.abs(ageMs) <= (coarse ? FRESH_COARSE_MS : FRESH_MS);
}

function hotJournal(path: string): BangerError {
  return new BangerError(
    'invalid_state',
    `${path} was left in the middle of a write: ${path}-journal must be rolled back before it can be read`,
    { hint: 'starting the daemon does that: banger daemon start' },
  );
}

function orphanWal(path: string, size: bigint | undefined): BangerError {
  return new BangerError(
    'io_error',
    `${path} is missing or empty, but ${path}-wal (${size} bytes) lies there: it belongs to a database that was moved away`,
    { hint: `put that database back, or move the rest away: mv ${path}-wal ${path}-wal.old` },
  );
}

interface Transfer {
  readonly source: number;
  readonly walSource: number | undefined;
  readonly copy: string;
  readonly onStep: (step: CopyStep) => void;
}

/** Whether the copy is of one moment. */
function copyBetween(path: string, before: Files, { source, walSource, copy, onStep }: Transfer): boolean {
  onStep('opened');
  const header = walSource === undefined ? EMPTY : readHeader(walSource);
  onStep('header');
  const copied = copyBytes(path, source, copy, 0);
  onStep('database');
  rmSync(`${copy}-wal`, { force: true });
  if (walSource !== undefined) copyBytes(path, walSource, `${copy}-wal`, copied);
  onStep('wal');
  const headerAfter = walSource === undefined ? EMPTY : readHeader(walSource);
  onStep('header-again');
  const after = look(path);
  if (hasBytes(after.journal)) return false;
  if (!isSameFile(before.database, source) || !isSameFile(after.database, source)) return false;
  if (header.length === WAL_HEADER_BYTES) {
    return headerAfter.equals(header) && walSource !== undefined && isSameFile(after.wal, walSource);
  }
  return isUnmoved(before.database, after.database) && isUnmoved(before.wal, after.wal);
}

const EMPTY = Buffer.alloc(0);

/** Shorter than 32 bytes when the file is. */
function readHeader(descriptor: number): Buffer {
  const header = Buffer.alloc(WAL_HEADER_BYTES);
  return header.subarray(0, readSync(descriptor, header, 0, WAL_HEADER_BYTES, 0));
}

/** The descriptor keeps the inode's number from being given out again. */
function isSameFile(stat: BigIntStats | undefined, descriptor: number): boolean {
  const opened = fstatSync(descriptor, { bigint: true });
  return stat !== undefined && stat.ino === opened.ino && stat.dev === opened.dev;
}

function isUnmoved(before: BigIntStats | undefined, after: BigIntStats | undefined): boolean {
  if (before === undefined || after === undefined) return before === after;
  const facts = ['dev', 'ino', 'size', 'mtimeNs', 'ctimeNs'] as const;
  return facts.every((fact) => before[fact] === after[fact]);
}

/** Undefined when it vanished or became something else since it was looked at. */
function openSource(path: string): number | undefined {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    return openQuietly(path, flags);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ELOOP') return undefined;
    throw fileError(`cannot read ${path}`, error);
  }
}

/** O_NOATIME is for the owner only: open(2). */
function openQuietly(path: string, flags: number): number {
  try {
    return openSync(path, flags | constants.O_NOATIME);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    return openSync(path, flags);
  }
}

/** Returns `already` plus what it copied. */
function copyBytes(path: string, source: number, target: string, already: number): number {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let total = already;
  const output = onCopy(path, () => openSync(target, 'w', 0o600));
  try {
    for (let position = 0; ; ) {
      const length = readChunk(path, source, chunk, position);
      if (length === 0) return total;
      position += length;
      total += length;
      assertSize(path, total);
      for (let written = 0; written < length; ) {
        written += onCopy(path, () => writeSync(output, chunk, written, length - written));
      }
    }
  } finally {
    closeSync(output);
  }
}

function readChunk(path: string, source: number, chunk: Buffer, position: number): number {
  try {
    return readSync(source, chunk, 0, chunk.length, position);
  } catch (error) {
    throw fileError(`cannot read ${path}`, error);
  }
}

/** What is wrong with the place of the copy must not look like damage of the original. */
function onCopy(path: string, write: () => number): number {
  try {
    return write();
  } catch (cause) {
    const known = fileError(`cannot make a copy of ${path} to read`, cause);
    if (known.code === 'no_space') throw known;
    throw new BangerError('unavailable', known.message, { cause });
  }
}

function assertSize(path: string, bytes: number): void {
  if (bytes <= MAX_COPY_BYTES) return;
  throw new BangerError('limit_exceeded', `${path} is too large to be read: over ${MAX_COPY_BYTES} bytes`);
}
