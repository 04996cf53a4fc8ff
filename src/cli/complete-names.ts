/** Live names for completion: asked from a daemon that runs, never starting one, silent when none answers. */

import type { CliClient, CliContext } from './cli-context.ts';

/** A shell waits for this at a key press. */
const PATIENCE_MS = 1000;

export function completeVms(context: CliContext): Promise<readonly string[]> {
  return ask(context, async (client, signal) => {
    const vms = await client.call('vm.list', {}, { signal });
    return vms.map((vm) => vm.name);
  });
}

export function completeImages(context: CliContext): Promise<readonly string[]> {
  return ask(context, async (client, signal) => {
    const images = await client.call('image.list', {}, { signal });
    return images.map((image) => image.name);
  });
}

export function completeKernels(context: CliContext): Promise<readonly string[]> {
  return ask(context, async (client, signal) => {
    const kernels = await client.call('kernel.list', {}, { signal });
    return kernels.map((kernel) => kernel.name);
  });
}

export function completeOperations(context: CliContext): Promise<readonly string[]> {
  return ask(context, async (client, signal) => {
    const operations = await client.call('operation.list', {}, { signal });
    return operations.map((operation) => operation.id);
  });
}

export function completeVmSnapshots(context: CliContext): Promise<readonly string[]> {
  return ask(context, async (client, signal) => {
    const { snapshots } = await client.call('snapshot.list', {}, { signal });
    return snapshots.map(({ name }) => name);
  });
}

/** Refs and digests. They are files, so without a daemon a process of our own looks for them. */
export function completeSnapshots(context: CliContext): Promise<readonly string[]> {
  const connect = async () =>
    (await context.ports.connect({ start: false })) ?? context.ports.connectOffline();
  return ask(
    context,
    async (client, signal) => {
      const snapshots = await client.call('state.list', {}, { signal });
      return snapshots.flatMap(({ refs, digest }) => [...refs, digest]);
    },
    connect,
  );
}

async function ask(
  context: CliContext,
  question: (client: CliClient, signal: AbortSignal) => Promise<readonly string[]>,
  connect: () => Promise<CliClient | null> = () => context.ports.connect({ start: false }),
): Promise<readonly string[]> {
  let client: CliClient | null = null;
  try {
    client = await connect();
    if (client === null) return [];
    return await Promise.race([question(client, AbortSignal.timeout(PATIENCE_MS)), tooLate()]);
  } catch {
    // An error message would land in the middle of the user's command line.
    return [];
  } finally {
    client?.close();
  }
}

function tooLate(): Promise<readonly string[]> {
  return new Promise((resolve) => {
    setTimeout(() => resolve([]), PATIENCE_MS).unref();
  });
}
