/** The services of an offline process. In a file of their own, so that refusing a request does not load them. */

import { VERSION } from '../core/buildinfo.ts';
import { now } from '../host/clock.ts';
import type { BangerPaths } from '../host/paths.ts';
import { MIGRATIONS } from '../store/migrations/list.ts';
import { viewSource } from '../store/state-source.ts';
import type { RestoreService } from './services/state/restore-service.ts';
import { StateService } from './services/state/state-service.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export function offlineState(paths: BangerPaths, env: Environment): StateService {
  const source = viewSource(paths.stateDb);
  return new StateService({ paths, source, migrations: MIGRATIONS, version: VERSION, now, env });
}

export async function offlineRestore(paths: BangerPaths): Promise<RestoreService> {
  const { RestoreService } = await import('./services/state/restore-service.ts');
  return new RestoreService({ paths, migrations: MIGRATIONS, version: VERSION });
}
