/**
 * Id 2 once meant something else (dropping images.packages_path), so a database may have recorded it without ever
 * dropping images.docker, and one older than the history may still have both. Columns decide here, not ids.
 */

import type { Migration } from './migration.ts';
import { columnsOf } from './migration.ts';

export const repairColumns: Migration = {
  id: 100,
  name: 'repair_columns',
  apply: (database) => {
    const images = columnsOf(database, 'images');
    if (images.has('docker')) database.exec('ALTER TABLE images DROP COLUMN docker');
    if (images.has('packages_path')) database.exec('ALTER TABLE images DROP COLUMN packages_path');
    if (columnsOf(database, 'vms').has('workspace_json')) return;
    database.exec("ALTER TABLE vms ADD COLUMN workspace_json TEXT NOT NULL DEFAULT '{}'");
  },
};
