/** When the VMs are looked at for whether anybody uses them. */

import type { Config } from '../host/config.ts';
import type { Log } from '../host/log.ts';
import type { IdleKeeper } from './idle-keeper.ts';

const MAX_INTERVAL_MS = 10_000;
const MIN_INTERVAL_MS = 500;
/** A VM goes to sleep at most this part of the time later than it could. */
const SHARE = 4;

/** Returns the way to end it. One round at a time. */
export function startIdleRounds(idle: IdleKeeper, config: Config, log: Log): () => void {
  const times = [config.idlePauseAfterMs, config.idleSaveAfterMs].filter((ms) => ms > 0);
  if (times.length === 0) return () => undefined;
  const intervalMs = Math.max(MIN_INTERVAL_MS, Math.min(MAX_INTERVAL_MS, Math.min(...times) / SHARE));
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    idle
      .round()
      .catch((error: unknown) => log.error({ err: error }, 'could not look for idle VMs'))
      .finally(() => {
        busy = false;
      });
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}
