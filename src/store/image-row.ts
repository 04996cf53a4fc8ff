/** Rows of `images` to records and back. */

import { isAbsolute } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { ImageRecord } from '../core/model/image.ts';
import type { Row } from './sql.ts';

/** Total: whatever lies in the columns becomes text, so that a damaged row is listed rather than hidden. */
export function toImageRecord(row: Row): ImageRecord {
  return {
    id: text(row['id']),
    name: text(row['name']),
    managed: row['managed'] === 1,
    artifactDir: text(row['artifact_dir']),
    rootfsPath: text(row['rootfs_path']),
    workSeedPath: textOrNull(row['work_seed_path']),
    kernelPath: text(row['kernel_path']),
    initrdPath: text(row['initrd_path']),
    modulesDir: text(row['modules_dir']),
    buildSize: text(row['build_size']),
    seededSshPublicKeyFingerprint: textOrNull(row['seeded_ssh_public_key_fingerprint']),
    createdAt: text(row['created_at']),
    updatedAt: text(row['updated_at']),
  };
}

/** A record to work with. @throws {BangerError} `io_error` naming the row and what is wrong with it */
export function toCheckedImageRecord(row: Row): ImageRecord {
  const record = toImageRecord(row);
  const wrong = problem(record);
  if (wrong === undefined) return record;
  throw new BangerError('io_error', `the row of image ${JSON.stringify(record.name)} is damaged: ${wrong}`);
}

function problem(record: ImageRecord): string | undefined {
  const paths = { rootfs_path: record.rootfsPath, kernel_path: record.kernelPath };
  for (const [column, path] of Object.entries(paths)) {
    if (!isAbsolute(path) || path.includes('\0')) return `${column} is not an absolute path`;
  }
  return undefined;
}

function text(value: unknown): string {
  return value === null || value === undefined ? '' : String(value);
}

/** An empty text and NULL mean the same: none. */
function textOrNull(value: unknown): string | null {
  return text(value) === '' ? null : text(value);
}
