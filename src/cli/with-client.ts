import type { CliClient, CliContext } from './cli-context.ts';

/** Connects (starting a daemon when none answers), runs `work`, hangs up. */
export async function withClient<T>(
  context: CliContext,
  work: (client: CliClient) => Promise<T>,
): Promise<T> {
  const client = await context.ports.connect({ start: true });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
