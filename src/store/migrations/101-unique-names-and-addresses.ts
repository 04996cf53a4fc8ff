/** Races for a name or an address are decided here, by SQLite, and nowhere else. */

import type { Migration } from './migration.ts';

export const uniqueNamesAndAddresses: Migration = {
  id: 101,
  name: 'unique_names_and_addresses',
  apply: (database) => {
    database.exec(`
      CREATE UNIQUE INDEX images_name ON images(name);
      CREATE UNIQUE INDEX vms_name ON vms(name);
      CREATE UNIQUE INDEX vms_guest_ip ON vms(guest_ip) WHERE guest_ip <> '';
      CREATE INDEX vms_image_id ON vms(image_id);
    `);
  },
};
