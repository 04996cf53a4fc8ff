/** What git's index says of each tracked file, read through git itself: that covers split, sparse and compressed ones. */

import { BangerError } from '../core/errors.ts';
import { type BytePath, displayPath, isSafePath } from './byte-path.ts';
import type { HostGit } from './git.ts';

/** File times and size as git saw them when it last compared the file with its object. */
export interface IndexStat {
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  /** The low 32 bits. */
  readonly ino: number;
  /** The low 32 bits. Zero in a file that is not empty: git was not sure. */
  readonly sizeBytes: number;
}

export interface IndexEntry {
  readonly path: BytePath;
  /** 0o100644, 0o100755, 0o120000 (symbolic link) or 0o160000 (submodule). */
  readonly mode: number;
  readonly oid: string;
  /** 0, or 1 to 3 while a merge is unresolved. */
  readonly stage: number;
  readonly stat: IndexStat | undefined;
  readonly assumeUnchanged: boolean;
  readonly skipWorktree: boolean;
  readonly intentToAdd: boolean;
}

export const GITLINK_MODE = 0o160000;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;

/** In-memory flags of an entry, cache.h of git. */
const CE_VALID = 0x8000;
const CE_INTENT_TO_ADD = 1 << 29;
const CE_SKIP_WORKTREE = 1 << 30;

const HEADER = /^([0-7]{6}) ([0-9a-f]{40,64}) ([0-3])\t/;
const DEBUG =
  /^ {2}ctime: (\d+):(\d+)\n {2}mtime: (\d+):(\d+)\n {2}dev: \d+\tino: (\d+)\n {2}uid: \d+\tgid: \d+\n {2}size: (\d+)\tflags: ([0-9a-f]+)\n/;
/** Longer than a header and than a block of debug lines can be. */
const WINDOW = 300;

/**
 * @param env names another index than the repository's own
 * @throws {BangerError} `bad_request` when the index holds a path that must not be made in a guest
 */
export async function readIndexEntries(
  git: HostGit,
  env: Record<string, string> = {},
): Promise<IndexEntry[]> {
  const listed = await git.run(['ls-files', '-z', '--stage', '--debug'], {
    env,
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  return parseIndexListing(listed.stdout);
}

/** `<mode> <oid> <stage>\t<path>\0`, then lines that begin with two spaces, as ls-files.c prints them. */
export function parseIndexListing(listing: Buffer): IndexEntry[] {
  const text = listing.toString('latin1');
  const entries: IndexEntry[] = [];
  for (let at = 0; at < text.length; ) {
    const header = HEADER.exec(text.slice(at, at + WINDOW));
    const end = text.indexOf('\0', at);
    if (header === null || end < 0) throw unexpected(text.slice(at, at + 80));
    const path = text.slice(at + header[0].length, end);
    const debug = DEBUG.exec(text.slice(end + 1, end + 1 + WINDOW));
    if (debug === null) throw unexpected(text.slice(end + 1, end + 81));
    at = end + 1 + debug[0].length;
    if (!isSafePath(path)) {
      throw new BangerError(
        'bad_request',
        `the repository tracks a path that is not allowed: ${displayPath(path)}`,
      );
    }
    entries.push(entryOf(path, header, debug.slice(1).map(Number), Number.parseInt(debug[7] ?? '', 16)));
  }
  return entries;
}

function entryOf(path: BytePath, header: RegExpExecArray, numbers: number[], flags: number): IndexEntry {
  const [ctimeSeconds = 0, ctimeNs = 0, mtimeSeconds = 0, mtimeNs = 0, ino = 0, sizeBytes = 0] = numbers;
  return {
    path,
    mode: Number.parseInt(header[1] ?? '', 8),
    oid: header[2] ?? '',
    stage: Number(header[3]),
    // The same arithmetic as node's Stats, so that equal times give equal numbers.
    stat:
      mtimeSeconds === 0
        ? undefined
        : {
            mtimeMs: mtimeSeconds * 1e3 + mtimeNs / 1e6,
            ctimeMs: ctimeSeconds * 1e3 + ctimeNs / 1e6,
            ino,
            sizeBytes,
          },
    assumeUnchanged: (flags & CE_VALID) !== 0,
    skipWorktree: (flags & CE_SKIP_WORKTREE) !== 0,
    intentToAdd: (flags & CE_INTENT_TO_ADD) !== 0,
  };
}

function unexpected(text: string): BangerError {
  return new BangerError('unsupported', `git lists its index in an unknown form: ${JSON.stringify(text)}`, {
    hint: 'git --version; 2.31 and later are known to work',
  });
}
