import type { Migration } from './migration.ts';
import { columnsOf } from './migration.ts';

export const dropImagesDocker: Migration = {
  id: 2,
  name: 'drop_images_docker',
  apply: (database) => {
    if (columnsOf(database, 'images').has('docker')) database.exec('ALTER TABLE images DROP COLUMN docker');
  },
};
