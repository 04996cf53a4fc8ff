/** Every migration, in the order they run. Append only: never edit, reorder or remove one that was released. */

import { baseline } from './001-baseline.ts';
import { dropImagesDocker } from './002-drop-images-docker.ts';
import { vmsWorkspaceJson } from './003-vms-workspace-json.ts';
import { repairColumns } from './100-repair-columns.ts';
import { uniqueNamesAndAddresses } from './101-unique-names-and-addresses.ts';
import { oneSchemaText } from './102-one-schema-text.ts';
import type { Migration } from './migration.ts';

export const MIGRATIONS: readonly Migration[] = [
  baseline,
  dropImagesDocker,
  vmsWorkspaceJson,
  repairColumns,
  uniqueNamesAndAddresses,
  oneSchemaText,
];
