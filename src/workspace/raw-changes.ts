/** What `git diff-index -z --raw` and `git diff-tree -z --raw` print, with `--numstat` or without: which paths differ, and how. */

import { BangerError } from '../core/errors.ts';
import { type BytePath, displayPath, isSafePath } from './byte-path.ts';

export type ChangeKind = 'added' | 'modified' | 'deleted' | 'type_changed';

/** What a path is on one side. */
export interface TreeEntry {
  /** As in IndexEntry; 0 where there is nothing. */
  readonly mode: number;
  /** All zeros where there is nothing. */
  readonly oid: string;
}

export interface Change {
  readonly path: BytePath;
  readonly kind: ChangeKind;
  readonly old: TreeEntry;
  readonly new: TreeEntry;
  /** With --numstat; null for a binary file, and without --numstat. */
  readonly insertions: number | null;
  readonly deletions: number | null;
}

export const MAX_CHANGES_BYTES = 256 * 1024 * 1024;

const RAW = /^:([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([AMDT])$/;
const NUMBERS = /^(\d{1,15}|-)\t(\d{1,15}|-)\t/;
const KINDS: Readonly<Record<string, ChangeKind>> = {
  A: 'added',
  M: 'modified',
  D: 'deleted',
  T: 'type_changed',
};

/**
 * Raw lines first, then those of --numstat; renames are not asked for.
 * @throws {BangerError} `guest_failed`: not in that form, or with a path that no file of ours may have
 */
export function parseChanges(listing: Buffer): Change[] {
  const items = listing.toString('latin1').split('\0');
  if (items.pop() !== '') throw unexpected('an unfinished line');
  const changes = new Map<BytePath, Change>();
  let at = 0;
  for (; at < items.length; at += 2) {
    const match = RAW.exec(items[at] ?? '');
    if (match === null) break;
    const path = items[at + 1] ?? '';
    if (!isSafePath(path)) throw unexpected(`the path ${JSON.stringify(displayPath(path))}`);
    if (changes.has(path)) throw unexpected(`the path ${JSON.stringify(displayPath(path))} twice`);
    changes.set(path, changeOf(path, match));
  }
  for (; at < items.length; at += 1) {
    const match = NUMBERS.exec(items[at] ?? '');
    const path = items[at]?.slice(match?.[0].length ?? 0) ?? '';
    const change = match === null ? undefined : changes.get(path);
    if (match === null || change === undefined) {
      throw unexpected(JSON.stringify(displayPath(items[at]?.slice(0, 80) ?? '')));
    }
    changes.set(path, { ...change, insertions: numberOf(match[1]), deletions: numberOf(match[2]) });
  }
  return [...changes.values()];
}

function changeOf(path: BytePath, match: RegExpExecArray): Change {
  const [, oldMode = '', newMode = '', oldOid = '', newOid = '', letter = ''] = match;
  return {
    path,
    kind: KINDS[letter] ?? 'modified',
    old: { mode: Number.parseInt(oldMode, 8), oid: oldOid },
    new: { mode: Number.parseInt(newMode, 8), oid: newOid },
    insertions: null,
    deletions: null,
  };
}

function numberOf(digits: string | undefined): number | null {
  return digits === undefined || digits === '-' ? null : Number(digits);
}

function unexpected(what: string): BangerError {
  return new BangerError('guest_failed', `git lists changes in an unknown form: ${what}`);
}
