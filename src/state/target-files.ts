/** The files of a state database as they lie on disk: looked at, never opened, never followed. */

import { type BigIntStats, lstatSync } from 'node:fs';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';

/** What SQLite adds to the name of a database for the files it keeps beside it: https://sqlite.org/tempfiles.html */
export const SIDECARS = ['-wal', '-shm', '-journal'] as const;

/** Paths of the database and of its possible companions. */
export function databaseFiles(dbPath: string): readonly string[] {
  return ['', ...SIDECARS].map((suffix) => dbPath + suffix);
}

/** Tells a file that was replaced or written from the one that was looked at. */
export interface FileIdentity {
  readonly inode: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export interface TargetFiles {
  /** Undefined: there is none. */
  readonly main: FileIdentity | undefined;
  /** By suffix: those that are there. */
  readonly sidecars: ReadonlyMap<string, FileIdentity>;
}

/**
 * @throws {BangerError} `permission`: one of them is a link, a directory or anything else but a regular file, or cannot
 *   be looked at; `io_error`
 */
export function lookAtTarget(dbPath: string): TargetFiles {
  const sidecars = new Map<string, FileIdentity>();
  for (const suffix of SIDECARS) {
    const identity = identityOf(dbPath + suffix);
    if (identity !== undefined) sidecars.set(suffix, identity);
  }
  return { main: identityOf(dbPath), sidecars };
}

/** Nothing there that holds a byte. */
export function isEmptyTarget(files: TargetFiles): boolean {
  const all = [files.main, ...files.sidecars.values()];
  return all.every((file) => file === undefined || file.size === 0n);
}

/** Undefined when there is no such file. Errors as `lookAtTarget`. */
export function identityOf(path: string): FileIdentity | undefined {
  let stat: BigIntStats | undefined;
  try {
    stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    throw fileError(`cannot look at ${path}`, error);
  }
  if (stat === undefined) return undefined;
  if (!stat.isFile())
    throw new BangerError('permission', `refusing to use ${path}: it is not a regular file`);
  return { inode: stat.ino, size: stat.size, mtimeNs: stat.mtimeNs, ctimeNs: stat.ctimeNs };
}

export function isSameFile(one: FileIdentity | undefined, other: FileIdentity | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return (
    one.inode === other.inode &&
    one.size === other.size &&
    one.mtimeNs === other.mtimeNs &&
    one.ctimeNs === other.ctimeNs
  );
}

/** Whether each of the files is the one that was looked at. */
export function isSameTarget(one: TargetFiles, other: TargetFiles): boolean {
  return (
    isSameFile(one.main, other.main) &&
    SIDECARS.every((suffix) => isSameFile(one.sidecars.get(suffix), other.sidecars.get(suffix)))
  );
}
