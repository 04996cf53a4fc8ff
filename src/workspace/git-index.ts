/** Writes a git index file, version 2 or 3 (gitformat-index(5)). */

import { createHash } from 'node:crypto';
import { bytesOf } from './byte-path.ts';
import type { IndexEntry } from './index-entries.ts';
import type { ObjectFormat } from './repo.ts';

/** What the guest will see of a file that is known to be unchanged; undefined makes its git look for itself. */
export interface ShippedStat {
  readonly mtimeSeconds: number;
  readonly sizeBytes: number;
}

const FIXED_BYTES = 40;
const EXTENDED_FLAGS_BYTES = 2;
const ASSUME_VALID = 0x8000;
const EXTENDED = 0x4000;
const SKIP_WORKTREE = 0x4000;
const INTENT_TO_ADD = 0x2000;
const MAX_NAME_LENGTH = 0xfff;

/**
 * @param entries in git's order: by path bytes, then stage
 * @param shippedStat which entries are clean
 */
export function encodeGitIndex(
  entries: readonly IndexEntry[],
  shippedStat: (entry: IndexEntry) => ShippedStat | undefined,
  format: ObjectFormat,
): Buffer {
  const extended = entries.some((entry) => entry.skipWorktree || entry.intentToAdd);
  const header = Buffer.alloc(12);
  header.write('DIRC', 'latin1');
  header.writeUInt32BE(extended ? 3 : 2, 4);
  header.writeUInt32BE(entries.length, 8);
  const body = Buffer.concat([header, ...entries.map((entry) => encodeEntry(entry, shippedStat(entry)))]);
  return Buffer.concat([body, createHash(format).update(body).digest()]);
}

function encodeEntry(entry: IndexEntry, stat: ShippedStat | undefined): Buffer {
  const path = bytesOf(entry.path);
  const oid = Buffer.from(entry.oid, 'hex');
  const extended = entry.skipWorktree || entry.intentToAdd;
  const nameAt = FIXED_BYTES + oid.length + 2 + (extended ? EXTENDED_FLAGS_BYTES : 0);
  // One to eight NULs end an entry, so that its length is a multiple of eight.
  const bytes = Buffer.alloc((nameAt + path.length + 8) & ~7);
  bytes.writeUInt32BE(stat?.mtimeSeconds ?? 0, 8);
  bytes.writeUInt32BE(entry.mode, 24);
  bytes.writeUInt32BE((stat?.sizeBytes ?? 0) % 2 ** 32, 36);
  oid.copy(bytes, FIXED_BYTES);
  const flags =
    (entry.assumeUnchanged ? ASSUME_VALID : 0) |
    (extended ? EXTENDED : 0) |
    (entry.stage << 12) |
    Math.min(path.length, MAX_NAME_LENGTH);
  bytes.writeUInt16BE(flags, FIXED_BYTES + oid.length);
  if (extended) {
    const more = (entry.skipWorktree ? SKIP_WORKTREE : 0) | (entry.intentToAdd ? INTENT_TO_ADD : 0);
    bytes.writeUInt16BE(more, FIXED_BYTES + oid.length + 2);
  }
  path.copy(bytes, nameAt);
  return bytes;
}
