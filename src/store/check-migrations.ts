/** `bangerd --check-migrations`: whether this program can use a database, told without touching it. */

import { BangerError, errorText } from '../core/errors.ts';
import { MIGRATIONS } from './migrations/list.ts';
import type { Migration } from './migrations/migration.ts';
import { type MigrationStatus, migrationStatus, newerText } from './migrations/status.ts';
import { selectOne } from './sql.ts';
import { type StateSource, viewSource } from './state-source.ts';

export interface MigrationCheck {
  /** 0: usable as it is, or none yet; 1: will be migrated; 2: newer than this program; 3: that cannot be told. */
  readonly exitStatus: 0 | 1 | 2 | 3;
  /** One line that names the file and the versions. */
  readonly line: string;
}

/** Checks the database at `path`. Never throws. */
export async function checkMigrations(
  path: string,
  source: StateSource = viewSource(path),
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<MigrationCheck> {
  try {
    const status = await source.read((database) => {
      const empty = selectOne(database, 'SELECT 1 FROM sqlite_schema LIMIT 1') === undefined;
      return empty ? undefined : migrationStatus(database, migrations);
    });
    return status === undefined
      ? { exitStatus: 0, line: `${path}: no database yet` }
      : described(path, status);
  } catch (error) {
    const hint = error instanceof BangerError && error.hint !== undefined ? ` (${error.hint})` : '';
    return { exitStatus: 3, line: `${path}: cannot tell: ${oneLine(errorText(error) + hint)}` };
  }
}

function described(path: string, status: MigrationStatus): MigrationCheck {
  switch (status.status) {
    case 'compatible':
      return { exitStatus: 0, line: `${path}: schema version ${status.level}, as this program has it` };
    case 'pending': {
      const list = status.pending.map(({ id, name }) => `${id} ${name}`).join(', ');
      const versions = `schema version ${status.level}, this program's is ${status.ours}`;
      return { exitStatus: 1, line: `${path}: ${versions}; pending: ${list}` };
    }
    case 'newer':
      return { exitStatus: 2, line: `${path}: ${newerText(status)}` };
  }
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ');
}
