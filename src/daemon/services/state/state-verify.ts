/** Whether a snapshot could be restored, and whether the database is sound. Both are only read. */

import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import type { StateVerified } from '../../../api/results/state.ts';
import { BangerError, errorText } from '../../../core/errors.ts';
import { exportState, type ExportOptions } from '../../../state/export.ts';
import { checkNewDatabase, openTemporary } from '../../../state/new-database.ts';
import { restoreToTempDb } from '../../../state/restore.ts';
import { levelOf } from '../../../state/state-schema.ts';
import type { VerifiedSnapshot } from '../../../state/verify.ts';
import { getImageById, listImages } from '../../../store/images.ts';
import type { Migration } from '../../../store/migrations/migration.ts';
import { migrate } from '../../../store/migrations/run.ts';
import { copyPlaces, makeCopyDir, removeCopyDir } from '../../../store/private-copy.ts';
import { selectAll } from '../../../store/sql.ts';
import { listVms } from '../../../store/vms.ts';

/** A database has about the size of its dump; indexes and pages that are not full come on top. */
const DATABASE_PER_PAYLOAD = 3;
const MAX_PROBLEMS = 10;

/**
 * Restores it into a private place and brings it to this program's schema, as a restore would.
 * @param subject what the user calls it
 * @throws {ErrVerify}
 * @throws {BangerError} `io_error` (it does not survive that), `no_space`
 */
export function verifyRestorable(
  subject: string,
  snapshot: VerifiedSnapshot,
  migrations: readonly Migration[],
): StateVerified {
  const { manifest, payload } = snapshot;
  const newest = migrations.at(-1)?.id ?? 0;
  const dir = makeCopyDir(payload.length * DATABASE_PER_PAYLOAD, copyPlaces());
  try {
    const path = join(dir, 'state.db');
    restoreToTempDb(snapshot, path);
    using database = openTemporary(path);
    migrate(database, path, migrations, { keepCopy: false });
    checkNewDatabase(database, manifest, migrations);
  } finally {
    removeCopyDir(dir);
  }
  const level = manifest.db_migration_version;
  return {
    subject,
    digest: manifest.checksum,
    migrationVersion: level,
    controlVersion: String(manifest.control_version),
    tableCounts: manifest.table_counts,
    checks: [
      'the manifest is whole and says what it must',
      `${manifest.encoded_bytes} bytes are the ones the manifest describes (sha256)`,
      `the schema is that of version ${level}, which this program knows`,
      'every row can be read, and comes back byte for byte from a restored database',
      ...(level === newest ? [] : [`the restored database can be migrated to version ${newest}`]),
      'the restored database passes integrity and foreign key checks',
    ],
  };
}

/**
 * @throws {BangerError} `verify_failed` (damage, or rows that lead nowhere), `unsupported` (things in it that are not
 *   ours), `version_mismatch`; what reading a row throws
 */
export function verifyDatabase(
  subject: string,
  database: DatabaseSync,
  options: ExportOptions,
): StateVerified {
  assertSound(subject, database);
  const { manifest } = exportState(database, options);
  const { db_migration_version: level } = manifest;
  const newest = options.migrations.at(-1)?.id ?? 0;
  // Queries are for the newest schema only.
  const isNewest = level === newest;
  if (isNewest) assertReadableRows(database);
  return {
    subject,
    digest: manifest.checksum,
    migrationVersion: level,
    controlVersion: String(manifest.control_version),
    tableCounts: manifest.table_counts,
    checks: [
      'the file is a sound database (integrity check)',
      'every row leads to rows that are there (foreign key check)',
      `tables and indexes are exactly those of version ${level}`,
      isNewest
        ? 'every VM and image can be read'
        : `the next daemon will bring it to version ${newest}; its rows can be read then`,
      'a snapshot of it can be taken',
    ],
  };
}

function assertSound(subject: string, database: DatabaseSync): void {
  const problems = selectAll(database, `PRAGMA integrity_check(${MAX_PROBLEMS})`)
    .map((row) => String(row['integrity_check']))
    .filter((text) => text !== 'ok');
  for (const row of selectAll(database, 'PRAGMA foreign_key_check').slice(0, MAX_PROBLEMS)) {
    problems.push(`a row of ${String(row['table'])} leads to no row of ${String(row['parent'])}`);
  }
  if (problems.length === 0) return;
  throw new BangerError(
    'verify_failed',
    `${subject} is damaged: ${problems.slice(0, MAX_PROBLEMS).join('; ')}`,
    {
      hint: 'the last snapshot replaces it: banger state bootstrap latest --force; or: banger state rebuild',
    },
  );
}

/** Reading rows is total: a damaged one is listed, and says what is wrong with it when it is used. */
function assertReadableRows(database: DatabaseSync): void {
  const problems = listVms(database).flatMap(({ runtime: { lastError } }) =>
    lastError?.startsWith('the row of VM ') === true ? [lastError] : [],
  );
  for (const { id } of listImages(database)) {
    try {
      getImageById(database, id);
    } catch (error) {
      problems.push(errorText(error));
    }
  }
  if (problems.length === 0) return;
  const more = problems.length > MAX_PROBLEMS ? `; and ${problems.length - MAX_PROBLEMS} more` : '';
  throw new BangerError('verify_failed', `${problems.slice(0, MAX_PROBLEMS).join('; ')}${more}`, {
    hint: 'banger doctor says of each what to do',
  });
}

/**
 * An older schema has many texts, as it was made by other programs, too: what a dump refuses in it, a migration mends.
 */
export function explainOldSchema(
  database: DatabaseSync,
  migrations: readonly Migration[],
  error: unknown,
): unknown {
  if (!(error instanceof BangerError) || error.code !== 'unsupported') return error;
  const newest = migrations.at(-1)?.id ?? 0;
  if (levelOrNone(database, migrations) >= newest) return error;
  return new BangerError('unsupported', error.message, {
    cause: error,
    hint: `it is of an older version; a daemon brings it to version ${newest} and keeps a copy: banger daemon start`,
  });
}

/** A history with gaps is an old one, too: migrations before 100 were another program's. */
function levelOrNone(database: DatabaseSync, migrations: readonly Migration[]): number {
  try {
    return levelOf(database, migrations);
  } catch (error) {
    if (error instanceof BangerError && error.code === 'unsupported') return 0;
    throw error;
  }
}
