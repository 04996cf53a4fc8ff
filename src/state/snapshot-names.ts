/** What snapshots are called: digests, the beginnings of digests, refs, paths of exported files. */

import { isAbsolute } from 'node:path';
import { BangerError } from '../core/errors.ts';

const HEX = /^[0-9a-f]{64}$/;
const DIGEST = /^sha256:([0-9a-f]{64})$/;
const MIN_PREFIX = 6;
const PREFIX = new RegExp(`^(?:sha256:)?([0-9a-f]{${MIN_PREFIX},63})$`);
const REF = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Of an exported payload, and of one in the collection. */
export const MANIFEST_SUFFIX = '.manifest.json';

/**
 * Returns the 64 hex digits of a digest: the only thing file names in the collection are made of.
 * @throws {BangerError} `bad_request`
 */
export function hexOf(digest: string): string {
  const hex = DIGEST.exec(digest)?.[1];
  if (hex !== undefined) return hex;
  throw new BangerError('bad_request', `${JSON.stringify(digest.slice(0, 100))} is not a digest`, {
    hint: 'a digest is sha256: and 64 lower-case hex digits',
  });
}

/** Whether a file name in the collection is that of a payload. */
export function isHex(name: string): boolean {
  return HEX.test(name);
}

/**
 * Returns `name` when a ref may be called so.
 * @throws {BangerError} `bad_request`
 */
export function parseRefName(name: string): string {
  if (isRefName(name)) return name;
  throw new BangerError('bad_request', `${JSON.stringify(name.slice(0, 150))} is no name for a snapshot`, {
    hint: 'up to 128 letters, digits and . _ -, beginning with a letter or a digit; not a digest',
  });
}

/**
 * Returns `name` when users may call a ref so: what they name is kept, which these are not.
 * @throws {BangerError} `bad_request`
 */
export function parseUserRefName(name: string): string {
  if (!isAutomaticRef(name)) return parseRefName(name);
  throw new BangerError(
    'bad_request',
    `${JSON.stringify(name.slice(0, 150))} is a name that banger gives by itself`,
    {
      hint: 'choose another name; prune does not keep what only such names point to',
    },
  );
}

export function isRefName(name: string): boolean {
  return REF.test(name) && !HEX.test(name);
}

/** Refs that banger makes by itself: they do not keep a snapshot from being pruned. */
export function isAutomaticRef(name: string): boolean {
  return name === LATEST || name.startsWith('auto-');
}

/** The ref to the snapshot that was taken last. */
export const LATEST = 'latest';

export type SnapshotName =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'digest'; readonly digest: string }
  /** A ref of that name comes first: dates are hex digits, too. `hex` undefined: can be nothing but a ref. */
  | { readonly kind: 'ref'; readonly name: string; readonly hex: string | undefined }
  | { readonly kind: 'prefix'; readonly hex: string };

/** @throws {BangerError} `bad_request`: can be none of these */
export function parseSnapshotName(source: string): SnapshotName {
  if (isAbsolute(source)) return { kind: 'path', path: source };
  const full = HEX.test(source) ? `sha256:${source}` : source;
  if (DIGEST.test(full)) return { kind: 'digest', digest: full };
  const hex = PREFIX.exec(source)?.[1];
  if (isRefName(source)) return { kind: 'ref', name: source, hex };
  if (hex !== undefined) return { kind: 'prefix', hex };
  throw new BangerError('bad_request', `${JSON.stringify(source.slice(0, 150))} names no snapshot`, {
    hint: `a digest, its first ${MIN_PREFIX} hex digits or more, a name, or the absolute path of an exported file`,
  });
}
