/** Differences between trees, as git lists them. */

import { BangerError } from '../core/errors.ts';
import { type BytePath, displayPath, isSafePath } from './byte-path.ts';

export interface TreeEntry {
  /** 0o100644, 0o100755, 0o120000 (symbolic link), 0o160000 (submodule) or 0o040000 (tree). */
  readonly mode: number;
  readonly oid: string;
}

/** One path that differs: on which side there is what; null: nothing. */
export interface TreeChange {
  readonly path: BytePath;
  readonly from: TreeEntry | null;
  readonly to: TreeEntry | null;
}

export const TREE_MODE = 0o040000;
const HEADER = /^:([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40,64}) ([0-9a-f]{40,64}) ([A-Z])\d*$/;

/**
 * Output of `git diff-tree -r -z --raw --no-renames` and the like: `:<mode> <mode> <oid> <oid> <status>\0<path>\0`
 * (gitformat-diff in git-diff-tree(1)).
 * @throws {BangerError} `unsupported`, `bad_request`: a path that must not be made below a directory of ours
 */
export function parseTreeChanges(listing: Buffer): TreeChange[] {
  const parts = listing.toString('latin1').split('\0');
  const changes: TreeChange[] = [];
  for (let at = 0; at + 1 < parts.length; at += 2) {
    const match = HEADER.exec(parts[at] ?? '');
    const path = parts[at + 1] ?? '';
    if (match === null) {
      throw new BangerError(
        'unsupported',
        `git lists changes in an unknown form: ${JSON.stringify(parts[at])}`,
      );
    }
    if (!isSafePath(path)) throw notAllowed(path);
    const [, fromMode = '', toMode = '', fromOid = '', toOid = ''] = match;
    changes.push({ path, from: entry(fromMode, fromOid), to: entry(toMode, toOid) });
  }
  return changes;
}

const LISTED = /^([0-7]{6}) [a-z]+ ([0-9a-f]{40,64})\t/;

/** Output of `git ls-tree -r -z`, as changes from nothing. @throws {BangerError} as `parseTreeChanges` */
export function parseTreeListing(listing: Buffer): TreeChange[] {
  const lines = listing.toString('latin1').split('\0');
  return lines.filter(Boolean).map((line) => {
    const match = LISTED.exec(line);
    if (match === null) {
      throw new BangerError('unsupported', `git lists a tree in an unknown form: ${JSON.stringify(line)}`);
    }
    const [prefix, mode = '', oid = ''] = match;
    const path = line.slice(prefix.length);
    if (!isSafePath(path)) throw notAllowed(path);
    return { path, from: null, to: entry(mode, oid) };
  });
}

function notAllowed(path: BytePath): BangerError {
  return new BangerError('bad_request', `a path that is not allowed: ${displayPath(path)}`);
}

function entry(mode: string, oid: string): TreeEntry | null {
  const number = Number.parseInt(mode, 8);
  return number === 0 ? null : { mode: number, oid };
}

export function isSameEntry(one: TreeEntry | null | undefined, other: TreeEntry | null | undefined): boolean {
  return (one?.mode ?? 0) === (other?.mode ?? 0) && one?.oid === other?.oid;
}
