/** When the VMs are looked at for whether anybody uses them. */

import type { Config } from '../host/config.ts';
import type { Log } from '../host/log.ts';
import type { IdleKeeper } from './idle-keeper.ts';

const MAX_INTERVAL_MS = 10_000;
const MIN_INTERVAL_MS = 500;
/** A VM goes to sleep at most this part of the time later than it could. */
const SHARE = 4;

/** One round at a time. Returns the way to end it, which breaks a round off and waits for that. */
export function startIdleRounds(
  idle: Pick<IdleKeeper, 'round'>,
  config: Config,
  log: Log,
): () => Promise<void> {
  const times = [config.idlePauseAfterMs, config.idleSaveAfterMs].filter((ms) => ms > 0);
  if (times.length === 0) return async () => undefined;
  const intervalMs = Math.max(MIN_INTERVAL_MS, Math.min(MAX_INTERVAL_MS, Math.min(...times) / SHARE));
  const stop = new AbortController();
  let round: Promise<void> | undefined;
  const timer = setInterval(() => {
    round ??= idle
      .round(stop.signal)
      .catch((error: unknown) => log.error({ err: error }, 'could not look for idle VMs'))
      .finally(() => {
        round = undefined;
      });
  }, intervalMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    stop.abort();
    await round;
  };
}
