/** Writing a snapshot where the user wants it. */

import { open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { fileError, syncDir } from '../host/files.ts';
import { decodeManifest, MAX_MANIFEST_BYTES } from './manifest.ts';
import { MANIFEST_SUFFIX } from './snapshot-names.ts';
import { isUnread, readCapped, type SnapshotBytes } from './snapshot-files.ts';

/**
 * Writes the payload to `path` and the manifest to `<path>.manifest.json`, 0600. What is there is never changed and no
 * symbolic link followed; files that are these two already are left as they are.
 * @returns whether both were there
 * @throws {BangerError} `already_exists`, `no_space`, `permission`, `io_error`
 */
export async function writeSnapshotTo(path: string, snapshot: SnapshotBytes): Promise<{ existed: boolean }> {
  const manifestPath = path + MANIFEST_SUFFIX;
  // A manifest beside another payload would make a damaged snapshot of both.
  const payloadThere = await isThere(path, snapshot.data);
  if (payloadThere && (await isManifestOfSame(manifestPath, snapshot))) return { existed: true };
  const manifestThere = await isThere(manifestPath, snapshot.manifestBytes);
  if (manifestThere && payloadThere) return { existed: true };
  // The manifest last: without it the payload is no snapshot.
  if (!payloadThere) await create(path, snapshot.data);
  try {
    if (!manifestThere) await create(manifestPath, snapshot.manifestBytes);
    await syncDir(dirname(path));
  } catch (error) {
    if (!payloadThere) await unlink(path).catch(() => {});
    throw fileError(`cannot write ${manifestPath}`, error);
  }
  return { existed: false };
}

/** Whether what lies there is a manifest of the same payload, taken at whatever time. */
async function isManifestOfSame(path: string, { manifestBytes }: SnapshotBytes): Promise<boolean> {
  try {
    const found = await readCapped(path, MAX_MANIFEST_BYTES, { followLinks: false });
    if (found === undefined) return false;
    const [there, ours] = [found, manifestBytes].map((bytes) => decodeManifest(bytes));
    return there?.encoded_checksum === ours?.encoded_checksum && there?.checksum === ours?.checksum;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}

/** @throws {BangerError} `already_exists`: something else is there */
async function isThere(path: string, bytes: Buffer): Promise<boolean> {
  let found: Buffer | undefined;
  try {
    found = await readCapped(path, bytes.length, { followLinks: false });
  } catch (error) {
    throw isUnread(error) ? error : occupied(path, error);
  }
  if (found !== undefined && !found.equals(bytes)) throw occupied(path, undefined);
  return found !== undefined;
}

async function create(path: string, bytes: Buffer): Promise<void> {
  let made = false;
  try {
    // O_EXCL: neither a file that came meanwhile nor the target of a link is written to.
    await using file = await open(path, 'wx', 0o600);
    made = true;
    await file.writeFile(bytes);
    await file.sync();
  } catch (error) {
    if (made) await unlink(path).catch(() => {});
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw occupied(path, error);
    throw fileError(`cannot write ${path}`, error);
  }
}

function occupied(path: string, cause: unknown): BangerError {
  return new BangerError('already_exists', `${path} exists and is something else`, {
    hint: 'nothing is overwritten: name another file, or remove that one',
    ...(cause === undefined ? {} : { cause }),
  });
}
