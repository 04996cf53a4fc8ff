/** What a look at the files of a snapshot shows, without reading its payload. */

import { lstat } from 'node:fs/promises';
import { errorText } from '../core/errors.ts';
import type { SnapshotManifest } from '../core/model/snapshot.ts';
import { fileError } from '../host/files.ts';
import { ErrVerify, type VerifyReason } from './errors.ts';
import { decodeManifest, MAX_MANIFEST_BYTES } from './manifest.ts';
import { isUnread, readCapped } from './snapshot-files.ts';
import { MANIFEST_SUFFIX } from './snapshot-names.ts';
import type { Ref } from './snapshot-refs.ts';

export interface SnapshotEntry {
  /** `sha256:<64 hex>`; '' for a ref that cannot be read. */
  readonly digest: string;
  readonly refs: readonly string[];
  /** Of the payload; of the ref, when that is all there is. */
  readonly path: string;
  /** RFC 3339: of the manifest, else of the file. */
  readonly createdAt: string;
  readonly manifest: SnapshotManifest | undefined;
  /** What is wrong with it, as far as a look at sizes and manifest shows; undefined otherwise. */
  readonly problem: string | undefined;
  /** The problem is that the system would not let it be read: it may be good. */
  readonly unread: boolean;
  /** The problem is that this program does not know its kind: a newer one may have made it, and can read it. */
  readonly foreign: boolean;
}

const FOREIGN: ReadonlySet<VerifyReason> = new Set(['version', 'kind', 'format', 'encoding']);

const MISSING_MANIFEST = 'its manifest is missing';
const MISSING_FILES = 'its files are missing';
const EPOCH = new Date(0).toISOString();

/** Never throws for what is in the files. `path`: of the payload. */
export async function describeSnapshot(
  digest: string,
  refs: readonly string[],
  path: string,
): Promise<SnapshotEntry> {
  const found = { digest, refs, path, manifest: undefined, foreign: false };
  try {
    // The payload first: prune removes the manifest first, and what it removes is not to look damaged.
    const payload = await statOf(path);
    const modified = payload?.modified ?? (await statOf(path + MANIFEST_SUFFIX))?.modified ?? EPOCH;
    try {
      const manifest = await readManifest(path);
      const problem = problemOf(digest, manifest, payload?.size);
      const createdAt = manifest?.created_at ?? modified;
      return { ...found, createdAt, manifest, problem, unread: false };
    } catch (error) {
      const foreign = error instanceof ErrVerify && FOREIGN.has(error.reason);
      return { ...found, createdAt: modified, problem: errorText(error), unread: isUnread(error), foreign };
    }
  } catch (error) {
    return { ...found, createdAt: EPOCH, problem: errorText(error), unread: true };
  }
}

async function readManifest(path: string): Promise<SnapshotManifest | undefined> {
  const bytes = await readCapped(path + MANIFEST_SUFFIX, MAX_MANIFEST_BYTES, { followLinks: false });
  return bytes === undefined ? undefined : decodeManifest(bytes);
}

export async function describeDamagedRef(ref: Ref): Promise<SnapshotEntry> {
  const stat = await statOf(ref.path).catch(() => undefined);
  const problem = `the ref ${ref.path} ${ref.unread ? 'cannot be read' : 'is damaged'}`;
  const createdAt = stat?.modified ?? EPOCH;
  const { name, path, unread } = ref;
  return { digest: '', refs: [name], path, createdAt, manifest: undefined, problem, unread, foreign: false };
}

/** Whether there was one, good or not. */
export function hasManifestFile({ problem }: SnapshotEntry): boolean {
  return problem !== MISSING_MANIFEST && problem !== MISSING_FILES;
}

export function newestFirst(a: SnapshotEntry, b: SnapshotEntry): number {
  return Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.digest < b.digest ? -1 : 1);
}

function problemOf(
  digest: string,
  manifest: SnapshotManifest | undefined,
  size: number | undefined,
): string | undefined {
  if (manifest === undefined) return size === undefined ? MISSING_FILES : MISSING_MANIFEST;
  if (manifest.checksum !== digest) return `its manifest is that of ${manifest.checksum}`;
  if (size === undefined) return 'its payload is missing';
  if (size === manifest.encoded_bytes) return undefined;
  return `its payload has ${size} bytes instead of ${manifest.encoded_bytes}`;
}

/** Undefined when it is not there, or is no regular file. */
async function statOf(path: string): Promise<{ size: number; modified: string } | undefined> {
  try {
    const stat = await lstat(path);
    return stat.isFile() ? { size: stat.size, modified: stat.mtime.toISOString() } : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(`cannot look at ${path}`, error);
  }
}
