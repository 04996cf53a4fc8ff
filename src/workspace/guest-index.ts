/** An index of a guest, as its git lists it: the guest's word, checked for form. */

import { BangerError } from '../core/errors.ts';
import type { BytePath } from './byte-path.ts';
import type { IndexEntry } from './index-entries.ts';

/** The paths may be any: they are for comparing. */
export type GuestIndexEntry = Pick<IndexEntry, 'mode' | 'oid' | 'stage'> & { readonly path: BytePath };

const STAGED = /^([0-7]{6}) ([0-9a-f]{40,64}) ([0-3])\t/;

/** Output of `git ls-files -z --stage` in a guest. @throws {BangerError} `guest_failed`: not in that form */
export function parseGuestIndex(listing: Buffer): GuestIndexEntry[] {
  const lines = listing.toString('latin1').split('\0');
  return lines.filter(Boolean).map((text) => {
    const match = STAGED.exec(text);
    if (match === null) throw new BangerError('guest_failed', 'the guest lists its index in an unknown form');
    const [prefix, mode = '', oid = '', stage = ''] = match;
    return { mode: Number.parseInt(mode, 8), oid, stage: Number(stage), path: text.slice(prefix.length) };
  });
}
