import { BangerError } from '../core/errors.ts';
import type { CliClient, CliContext } from './cli-context.ts';

/** Runs `work` with the daemon where one answers, else with a process of its own; never starts a daemon. */
export async function withStateClient<T>(
  context: CliContext,
  work: (client: CliClient) => Promise<T>,
): Promise<T> {
  const daemon = await usableDaemon(context);
  if (daemon === null) return await withOfflineClient(context, work);
  try {
    return await work(daemon);
  } finally {
    daemon.close();
  }
}

/**
 * Runs `work` with a process of its own, whether a daemon runs or not: for what needs that none runs, and for reading
 * snapshots, which others may have made to be slow, and for which the daemon would leave everyone waiting.
 */
export async function withOfflineClient<T>(
  context: CliContext,
  work: (client: CliClient) => Promise<T>,
): Promise<T> {
  const client = await context.ports.connectOffline();
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** Null when none answers, or none that this program can talk to: the state can be read without it. */
async function usableDaemon(context: CliContext): Promise<CliClient | null> {
  let client: CliClient | null = null;
  try {
    client = await context.ports.connect({ start: false });
    await client?.hello();
    return client;
  } catch (error) {
    client?.close();
    if (!(error instanceof BangerError)) throw error;
    context.stderr.write(`note: working without the daemon: ${error.message}\n`);
    return null;
  }
}
