/** Long work that several callers want at once (an image build, a probe) runs once, and they share its outcome. */

import { abandonable } from './abandonable.ts';

interface Flight<T, P> {
  readonly outcome: Promise<T>;
  readonly abort: AbortController;
  readonly listeners: Set<(progress: P) => void>;
  waiters: number;
}

export class SingleFlight<T, P> {
  readonly #flights = new Map<string, Flight<T, P>>();

  /**
   * Joins the running work for `key` or starts it. A caller whose signal aborts leaves at once;
   * the work itself is aborted when its last caller has left, and that caller waits until it has cleaned up.
   */
  async join(
    key: string,
    caller: { readonly signal: AbortSignal; readonly onProgress: (progress: P) => void },
    work: (signal: AbortSignal, onProgress: (progress: P) => void) => Promise<T>,
  ): Promise<T> {
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    flight.waiters++;
    flight.listeners.add(caller.onProgress);
    try {
      return await abandonable(flight.outcome, caller.signal);
    } finally {
      flight.listeners.delete(caller.onProgress);
      flight.waiters--;
      if (flight.waiters === 0 && this.#flights.get(key) === flight) {
        this.#flights.delete(key);
        flight.abort.abort();
        await flight.outcome.catch(() => undefined);
      }
    }
  }

  #start(
    key: string,
    work: (signal: AbortSignal, onProgress: (progress: P) => void) => Promise<T>,
  ): Flight<T, P> {
    const abort = new AbortController();
    const listeners = new Set<(progress: P) => void>();
    const outcome = work(abort.signal, (progress) => {
      for (const listener of listeners) listener(progress);
    });
    const flight: Flight<T, P> = { outcome, abort, listeners, waiters: 0 };
    this.#flights.set(key, flight);
    const land = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    outcome.then(land, land);
    return flight;
  }
}
