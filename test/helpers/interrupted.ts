/** Calls of a daemon that are watched, and ended in the middle. */

import type { Method, ParamsOf, Progress } from '../../src/api/contract.ts';
import { connect } from '../../src/rpc/client.ts';
import { isAlive, settled, type TestHome } from './test-home.ts';

export interface Interruption {
  readonly abort: () => void;
  /** Ends the daemon, at once. */
  readonly kill: () => Promise<void>;
}

/**
 * Makes a call, and does `what` once it is at the moment or has ended.
 * @param isMoment of what the call reports
 * @returns the error; undefined: it was done before
 */
export async function callUntil<M extends Method>(
  home: TestHome,
  method: M,
  params: ParamsOf<M>,
  isMoment: (progress: Progress) => boolean,
  what: (how: Interruption) => Promise<void>,
): Promise<string | undefined> {
  const daemon = await home.json<{ version: string; socketPath: string; pid: number }>(['daemon', 'status']);
  const client = await connect(daemon);
  const controller = new AbortController();
  const { promise: met, resolve } = Promise.withResolvers<void>();
  const call = client.call(method, params, {
    signal: controller.signal,
    onProgress: (progress) => {
      if (isMoment(progress)) resolve();
    },
  });
  const ended = call.then(
    () => undefined,
    (error: unknown) => String(error),
  );
  await Promise.race([met, ended]);
  await what({
    abort: () => controller.abort(),
    kill: async () => {
      process.kill(daemon.pid, 'SIGKILL');
      await settled(() => !isAlive(daemon.pid));
    },
  });
  const error = await ended;
  client.close();
  return error;
}
