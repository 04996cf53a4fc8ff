/** Differences between trees, as git lists them: git of the host, and git of a guest, whose word is checked more closely. */

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

export type ChangeKind = 'added' | 'modified' | 'deleted' | 'type_changed';

export interface CountedChange extends TreeChange {
  readonly kind: ChangeKind;
  /** With --numstat; null for a binary file, and without --numstat. */
  readonly insertions: number | null;
  readonly deletions: number | null;
}

export const TREE_MODE = 0o040000;
export const MAX_CHANGES_BYTES = 256 * 1024 * 1024;

const TYPE_BITS = 0o170000;
const OID = '([0-9a-f]{40}|[0-9a-f]{64})';
/** `:<mode> <mode> <oid> <oid> <status>`, then the path (git-diff-tree(1), "RAW OUTPUT FORMAT"). Renames are not asked for. */
const RAW = new RegExp(`^:([0-7]{6}) ([0-7]{6}) ${OID} ${OID} ([A-Z])$`);
const NUMBERS = /^(\d{1,15}|-)\t(\d{1,15}|-)\t/;
/** Without U, which an index with an unresolved merge has. */
const SETTLED = /^[AMDT]$/;

/**
 * What git of the host says of the host's repository: `diff-tree -z --raw`, `diff-index`, `diff-files`. A path of which a merge is not
 * resolved is there more than once, and so is one that was a file and is a directory, with -t.
 * @throws {BangerError} `unsupported`, `bad_request`: a path that must not be made below a directory of ours
 */
export function parseTreeChanges(listing: Buffer): TreeChange[] {
  const items = listing.toString('latin1').split('\0');
  const { changes, at } = parseRaw(items, notAllowed);
  if (at < items.length - 1 || items.at(-1) !== '') {
    const item = displayPath(items[at]?.slice(0, 80) ?? '');
    throw new BangerError('unsupported', `git lists changes in an unknown form: ${JSON.stringify(item)}`);
  }
  return changes.map(({ path, from, to }) => ({ path, from, to }));
}

/**
 * What a guest says, or git of the host of trees that a guest made: raw lines, then those of --numstat, if any. Each path once.
 * @throws {BangerError} `guest_failed`: not in that form, or with a path that no file of ours may have
 */
export function parseGuestChanges(listing: Buffer): CountedChange[] {
  const items = listing.toString('latin1').split('\0');
  if (items.pop() !== '') throw unexpected('an unfinished line');
  const parsed = parseRaw(items, (path) => unexpected(`the path ${JSON.stringify(displayPath(path))}`));
  const changes = new Map<BytePath, CountedChange>();
  for (const { status, ...change } of parsed.changes) {
    const { path } = change;
    if (!SETTLED.test(status)) throw unexpected(`the status ${status}`);
    if (changes.has(path)) throw unexpected(`the path ${JSON.stringify(displayPath(path))} twice`);
    changes.set(path, { ...change, kind: kindOf(change), insertions: null, deletions: null });
  }
  for (const item of items.slice(parsed.at)) {
    const match = NUMBERS.exec(item);
    const change = match === null ? undefined : changes.get(item.slice(match[0].length));
    if (match === null || change === undefined)
      throw unexpected(JSON.stringify(displayPath(item.slice(0, 80))));
    changes.set(change.path, {
      ...change,
      insertions: numberOf(match[1]),
      deletions: numberOf(match[2]),
    });
  }
  return [...changes.values()];
}

interface RawChange extends TreeChange {
  readonly status: string;
}

/** @returns the changes, and where the first item is that is none */
function parseRaw(
  items: readonly string[],
  refuse: (path: BytePath) => BangerError,
): { readonly changes: readonly RawChange[]; readonly at: number } {
  const changes: RawChange[] = [];
  let at = 0;
  for (; at + 1 < items.length; at += 2) {
    const match = RAW.exec(items[at] ?? '');
    if (match === null) break;
    const path = items[at + 1] ?? '';
    if (!isSafePath(path)) throw refuse(path);
    const [, fromMode = '', toMode = '', fromOid = '', toOid = '', status = ''] = match;
    changes.push({ path, from: entry(fromMode, fromOid), to: entry(toMode, toOid), status });
  }
  return { changes, at };
}

function kindOf({ from, to }: TreeChange): ChangeKind {
  if (from === null) return 'added';
  if (to === null) return 'deleted';
  return (from.mode & TYPE_BITS) === (to.mode & TYPE_BITS) ? 'modified' : 'type_changed';
}

function numberOf(digits: string | undefined): number | null {
  return digits === undefined || digits === '-' ? null : Number(digits);
}

function unexpected(what: string): BangerError {
  return new BangerError('guest_failed', `git lists changes in an unknown form: ${what}`);
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
