/** A command's connection to the daemon: the one that runs, or one that is started for it. */

import { BangerError } from '../../core/errors.ts';
import { connect, type RpcClient } from '../../rpc/client.ts';
import type { ConnectDaemonOptions } from './types.ts';

/**
 * Connects, starting a daemon first when none answers. Several commands at once start one: the instance lock decides.
 * A daemon of another version shows at the first call: `version_mismatch`, except for `daemon.status` and `daemon.stop`.
 * @throws {BangerError} `unavailable` (with the last lines of the log, when a daemon did not start), `permission`, `cancelled`
 */
export async function connectDaemon(options: ConnectDaemonOptions): Promise<RpcClient> {
  const client = await tryConnect(options);
  if (client !== null) return client;
  if (options.daemonArgv === null) {
    throw new BangerError('unavailable', `no daemon answers at ${options.socketPath}`);
  }
  options.onStarting?.();
  // Loaded only now: most commands find a daemon.
  const { startDaemon } = await import('./start-daemon.ts');
  return await startDaemon(options, options.daemonArgv, () => tryConnect(options));
}

/** Null when nothing listens. */
async function tryConnect(options: ConnectDaemonOptions): Promise<RpcClient | null> {
  const { socketPath, version, signal } = options;
  try {
    return await connect({ socketPath, version, ...(signal === undefined ? {} : { signal }) });
  } catch (error) {
    if (error instanceof BangerError && error.code === 'unavailable') return null;
    throw error;
  }
}
