/** What `bangerd --check-migrations` says of this user's database. */

import { errorText } from '../core/errors.ts';
import { type BangerPaths, resolvePaths } from '../host/paths.ts';
import { checkMigrations, type MigrationCheck } from '../store/check-migrations.ts';

type Environment = Parameters<typeof resolvePaths>[0];

/** Touches nothing; never throws. */
export async function checkStateMigrations(env: Environment, uid: number): Promise<MigrationCheck> {
  let paths: BangerPaths;
  try {
    paths = resolvePaths(env, uid);
  } catch (error) {
    return { exitStatus: 3, line: `cannot tell: ${errorText(error)}` };
  }
  return await checkMigrations(paths.stateDb);
}
