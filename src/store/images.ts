/** The `images` table: one function per operation. */

import type { DatabaseSync } from 'node:sqlite';
import { BangerError } from '../core/errors.ts';
import type { ImageRecord } from '../core/model/image.ts';
import { isForeignKeyViolation, isUniqueViolation } from './errors.ts';
import { toCheckedImageRecord, toImageRecord } from './image-row.ts';
import { change, durableTransaction, selectAll, selectOne } from './sql.ts';

/**
 * Inserts an image or replaces the one with its id; created_at stays.
 * @throws {BangerError} `already_exists`: another image has the name
 */
export function upsertImage(database: DatabaseSync, image: ImageRecord): void {
  try {
    durableTransaction(database, () => insertOrReplace(database, image));
  } catch (cause) {
    if (!isUniqueViolation(cause, 'images.name')) throw cause;
    throw new BangerError('already_exists', `image name "${image.name}" is taken`, {
      hint: `banger image show ${image.name}`,
      cause,
    });
  }
}

function insertOrReplace(database: DatabaseSync, image: ImageRecord): void {
  change(
    database,
    `INSERT INTO images (id, name, managed, artifact_dir, rootfs_path, work_seed_path, kernel_path, initrd_path,
         modules_dir, build_size, seeded_ssh_public_key_fingerprint, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET name = excluded.name, managed = excluded.managed,
         artifact_dir = excluded.artifact_dir, rootfs_path = excluded.rootfs_path,
         work_seed_path = excluded.work_seed_path, kernel_path = excluded.kernel_path,
         initrd_path = excluded.initrd_path, modules_dir = excluded.modules_dir, build_size = excluded.build_size,
         seeded_ssh_public_key_fingerprint = excluded.seeded_ssh_public_key_fingerprint,
         updated_at = excluded.updated_at`,
    image.id,
    image.name,
    image.managed ? 1 : 0,
    image.artifactDir,
    image.rootfsPath,
    image.workSeedPath,
    image.kernelPath,
    image.initrdPath,
    image.modulesDir,
    image.buildSize,
    image.seededSshPublicKeyFingerprint,
    image.createdAt,
    image.updatedAt,
  );
}

/** @throws {BangerError} `io_error`: the row is damaged */
export function getImageByName(database: DatabaseSync, name: string): ImageRecord | undefined {
  const row = selectOne(database, 'SELECT * FROM images WHERE name = ?', name);
  return row === undefined ? undefined : toCheckedImageRecord(row);
}

/** @throws {BangerError} `io_error`: the row is damaged */
export function getImageById(database: DatabaseSync, id: string): ImageRecord | undefined {
  const row = selectOne(database, 'SELECT * FROM images WHERE id = ?', id);
  return row === undefined ? undefined : toCheckedImageRecord(row);
}

/** Oldest first; a damaged row is there too, with what can be read of it. */
export function listImages(database: DatabaseSync): readonly ImageRecord[] {
  return selectAll(database, 'SELECT * FROM images ORDER BY created_at, id').map(toImageRecord);
}

/**
 * Removes the row; false when there was none.
 * @throws {BangerError} `in_use`: a VM stands on it
 */
export function deleteImage(database: DatabaseSync, id: string): boolean {
  try {
    return durableTransaction(database, () => change(database, 'DELETE FROM images WHERE id = ?', id) > 0);
  } catch (cause) {
    if (!isForeignKeyViolation(cause)) throw cause;
    const names = selectAll(database, 'SELECT name FROM vms WHERE image_id = ? ORDER BY created_at, id', id);
    const users = names.map((row) => String(row['name']));
    throw new BangerError('in_use', `the image is the disk under VM ${users.join(', ')}`, {
      hint: `banger vm delete ${users.join(' ')}`,
      cause,
    });
  }
}
