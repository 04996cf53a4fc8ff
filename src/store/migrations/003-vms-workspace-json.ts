import type { Migration } from './migration.ts';
import { columnsOf } from './migration.ts';

export const vmsWorkspaceJson: Migration = {
  id: 3,
  name: 'vms_workspace_json',
  apply: (database) => {
    if (columnsOf(database, 'vms').has('workspace_json')) return;
    database.exec("ALTER TABLE vms ADD COLUMN workspace_json TEXT NOT NULL DEFAULT '{}'");
  },
};
