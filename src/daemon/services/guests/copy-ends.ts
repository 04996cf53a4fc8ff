/** The two ends of a copy: what is there, and where things go. */

import type { Stats } from 'node:fs';
import { lstat, mkdir, stat } from 'node:fs/promises';
import { type CopyPath, type CopyTarget, type CopyTargetKind, copyTarget } from '../../../core/copy-path.ts';
import { BangerError } from '../../../core/errors.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import type {
  ArchiveRecord,
  DirectoryRecord,
  FileRecord,
  SkippedRecord,
  SymlinkRecord,
} from '../../../guest/archive/records.ts';
import { isErrno } from '../../../host/drafts.ts';
import { fileError } from '../../../host/files.ts';

/** Of root, whose the files in a guest are. */
const GUEST_HOME = '/root';
const ENTRY_LIMITS = { maxRecords: 1, maxDataBytes: 0 };

/** Guest paths that say no root are below root's home, as with scp. */
export function inGuest(path: string): string {
  if (path.startsWith('/')) return path;
  const below = path === '~' ? '' : path.startsWith('~/') ? path.slice(2) : path;
  return below === '' ? GUEST_HOME : `${GUEST_HOME}/${below}`;
}

export interface GuestEnd {
  readonly name: string;
  readonly agent: AgentClient;
  readonly guestPath: CopyPath;
  readonly signal: AbortSignal;
}

export type GuestEntry = DirectoryRecord | FileRecord | SymlinkRecord | SkippedRecord;

/** What is at the path in the guest; undefined: nothing. Not to be asked of contents. */
export async function guestEntry(
  { agent, guestPath, signal }: GuestEnd,
  follow: boolean,
): Promise<GuestEntry | undefined> {
  if (guestPath.name === '') return undefined;
  const request = { base: guestPath.directory, paths: [guestPath.name], follow, entryOnly: true };
  let entry: GuestEntry | undefined;
  try {
    for await (const record of agent.pack(request, ENTRY_LIMITS, signal)) if (isEntry(record)) entry = record;
  } catch (error) {
    if (error instanceof BangerError && error.code === 'not_found') return undefined;
    throw error;
  }
  return entry;
}

function isEntry(record: ArchiveRecord): record is GuestEntry {
  return ['directory', 'file', 'symlink', 'skipped'].includes(record.kind);
}

/** @param known what `guestEntry` said, when it was asked before. @throws {BangerError} `not_found`, `already_exists`, `bad_request` */
export async function guestTarget(
  end: GuestEnd,
  source: CopyPath | undefined,
  isDirectory: boolean,
  known?: GuestEntry,
): Promise<CopyTarget> {
  const { name, guestPath } = end;
  const entry = known ?? (await guestEntry(end, true));
  const isThere: CopyTargetKind =
    entry === undefined ? 'missing' : entry.kind === 'directory' ? 'directory' : 'other';
  const kind = guestPath.name === '' ? 'directory' : isThere;
  const target = orRefused(copyTarget(source, isDirectory, guestPath, kind), `${name}:${guestPath.whole}`);
  // As the directory itself, under its new name: then it has its mode and time, too.
  return target.isNew ? { directory: guestPath.directory, name: guestPath.name, isNew: false } : target;
}

/** Of the host's end, as a source. @throws {BangerError} `not_found`, `bad_request`, `permission`, `io_error` */
export async function hostKind(path: CopyPath, follow: boolean): Promise<'directory' | 'file'> {
  const found = await statusOf(path.whole, follow);
  if (found === 'missing') throw new BangerError('not_found', `${path.whole} does not exist`);
  if (found === 'blocked') throw new BangerError('bad_request', `${path.whole} is not a directory`);
  if (found.isDirectory()) return 'directory';
  if (!found.isFile() && !found.isSymbolicLink()) {
    throw new BangerError('bad_request', `${path.whole} is neither a file, a directory nor a symbolic link`);
  }
  if (!path.saysDirectory) return 'file';
  throw new BangerError('bad_request', `${path.whole} is not a directory`);
}

/** Where it goes on the host; the directory for contents is made. @throws {BangerError} as `guestTarget`; `permission`, `io_error` */
export async function hostTarget(source: CopyPath, isDirectory: boolean, to: CopyPath): Promise<CopyTarget> {
  const found = await statusOf(to.whole, true);
  const kind = found === 'missing' ? 'missing' : isDirectoryAt(found) ? 'directory' : 'other';
  const target = orRefused(copyTarget(source, isDirectory, to, kind), to.whole);
  if (target.isNew) {
    await mkdir(target.directory).catch((error: unknown) => {
      throw cannotWrite(target.directory, error);
    });
  } else if (!isDirectoryAt(await statusOf(target.directory, true))) {
    throw new BangerError('not_found', `${target.directory} is no directory: nothing can be written to it`);
  }
  return target;
}

function cannotWrite(path: string, error: unknown): BangerError {
  if (isErrno(error, 'ENOENT'))
    return new BangerError('not_found', `the directory of ${path} does not exist`);
  return fileError(`cannot make ${path}`, error);
}

/** `blocked`: something that is no directory is on the way, or ends in a slash. */
async function statusOf(path: string, follow: boolean): Promise<Stats | 'missing' | 'blocked'> {
  try {
    return await (follow ? stat(path) : lstat(path));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 'missing';
    if (isErrno(error, 'ENOTDIR')) return 'blocked';
    throw fileError(`cannot look at ${path}`, error);
  }
}

function isDirectoryAt(found: Stats | 'missing' | 'blocked'): boolean {
  return typeof found !== 'string' && found.isDirectory();
}

function orRefused(target: ReturnType<typeof copyTarget>, shown: string): CopyTarget {
  switch (target) {
    case 'not-a-directory':
      throw new BangerError('already_exists', `${shown} is not a directory`);
    case 'is-a-directory':
      throw new BangerError('bad_request', `${shown} is a directory`, {
        hint: 'name the file: what comes from stdin has no name',
      });
    case 'missing-directory':
      throw new BangerError('not_found', `${shown} does not exist`, {
        hint: 'make the directory first, or leave the slash out',
      });
    default:
      return target;
  }
}
