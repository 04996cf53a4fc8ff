/**
 * Gives every database, whatever its history, the same schema byte for byte: a state snapshot has the DDL in it, and
 * its digest must not tell how old a database is. Tables are made anew rather than altered, as ALTER keeps old text.
 * Columns that are not ours end here; the copy made before migrating has them.
 */

import type { DatabaseSync } from 'node:sqlite';
import { columnsOf, type Migration } from './migration.ts';

const IMAGES = `CREATE TABLE images (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  managed INTEGER NOT NULL DEFAULT 0,
  artifact_dir TEXT NOT NULL DEFAULT '',
  rootfs_path TEXT NOT NULL,
  work_seed_path TEXT,
  kernel_path TEXT NOT NULL,
  initrd_path TEXT NOT NULL DEFAULT '',
  modules_dir TEXT NOT NULL DEFAULT '',
  build_size TEXT NOT NULL DEFAULT '',
  seeded_ssh_public_key_fingerprint TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
)`;

const VMS = `CREATE TABLE vms (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  image_id TEXT NOT NULL REFERENCES images(id),
  guest_ip TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  last_touched_at TEXT NOT NULL,
  spec_json TEXT NOT NULL,
  runtime_json TEXT NOT NULL,
  stats_json TEXT NOT NULL DEFAULT '{}',
  workspace_json TEXT NOT NULL DEFAULT '{}'
)`;

const HISTORY = `CREATE TABLE schema_migrations (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at TEXT NOT NULL
)`;

/** What a NULL becomes where an older schema took it; all other columns of ours take it too, or have no NULL. */
const INSTEAD_OF_NULL: Readonly<Record<string, string>> = {
  managed: '0',
  spec_json: "'{}'",
  runtime_json: "'{}'",
  stats_json: "'{}'",
  workspace_json: "'{}'",
};
const NULLABLE = new Set(['work_seed_path', 'seeded_ssh_public_key_fingerprint']);

export const oneSchemaText: Migration = {
  id: 102,
  name: 'one_schema_text',
  apply: (database) => {
    // The Go program's, which it stopped using: its rows refer to VMs.
    database.exec('DROP TABLE IF EXISTS guest_sessions');
    // Renaming rewrites the reference of vms to images, so the old tables stay consistent until both are gone.
    for (const table of ['images', 'vms', 'schema_migrations']) {
      database.exec(`ALTER TABLE ${table} RENAME TO old_${table}`);
    }
    for (const sql of [IMAGES, VMS, HISTORY]) database.exec(sql);
    copy(database, 'images');
    assertImagesExist(database);
    copy(database, 'vms');
    copy(database, 'schema_migrations');
    database.exec(`
      DROP TABLE old_vms;
      DROP TABLE old_images;
      DROP TABLE old_schema_migrations;
      CREATE UNIQUE INDEX images_name ON images(name);
      CREATE UNIQUE INDEX vms_name ON vms(name);
      CREATE UNIQUE INDEX vms_guest_ip ON vms(guest_ip) WHERE guest_ip <> '';
      CREATE INDEX vms_image_id ON vms(image_id);
    `);
  },
};

function copy(database: DatabaseSync, table: string): void {
  const columns = [...columnsOf(database, table)];
  const values = columns.map((column) =>
    NULLABLE.has(column) ? column : `COALESCE(${column}, ${INSTEAD_OF_NULL[column] ?? "''"})`,
  );
  database.exec(
    `INSERT INTO ${table} (${columns.join()}) SELECT ${values.join()} FROM old_${table} ORDER BY 1`,
  );
}

/** SQLite would only say that a foreign key failed. */
function assertImagesExist(database: DatabaseSync): void {
  const rows = database
    .prepare("SELECT name FROM old_vms WHERE COALESCE(image_id, '') NOT IN (SELECT id FROM images) LIMIT 5")
    .all();
  if (rows.length === 0) return;
  throw new Error(
    `the image of VM ${rows.map((row) => String(row['name'])).join(', ')} is not in the database`,
  );
}
