/** The tables as the Go program's baseline has them. A database older than its own history has them already. */

import type { Migration } from './migration.ts';

export const baseline: Migration = {
  id: 1,
  name: 'baseline',
  apply: (database) => {
    database.exec(`
      CREATE TABLE IF NOT EXISTS images (
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
        docker INTEGER NOT NULL DEFAULT 0,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
      );
      CREATE TABLE IF NOT EXISTS vms (
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
        stats_json TEXT NOT NULL DEFAULT '{}'
      );
    `);
  },
};
