/** One mutex per key (a VM, a workspace), with a wait that can be given up. */

import { Mutex } from 'async-mutex';
import { abandonable } from './abandonable.ts';

export class KeyedLock {
  readonly #mutexes = new Map<string, { mutex: Mutex; users: number }>();

  /**
   * Runs `work` while holding the key's lock.
   * @throws {BangerError} `cancelled` when the signal aborts while waiting; whatever `work` throws
   */
  async run<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const entry = this.#mutexes.get(key) ?? { mutex: new Mutex(), users: 0 };
    this.#mutexes.set(key, entry);
    entry.users++;
    try {
      const release = await acquire(entry.mutex, signal);
      try {
        return await work();
      } finally {
        release();
      }
    } finally {
      entry.users--;
      if (entry.users === 0) this.#mutexes.delete(key);
    }
  }

  isHeld(key: string): boolean {
    return this.#mutexes.get(key)?.mutex.isLocked() ?? false;
  }
}

/** A waiter that gives up passes its turn on as soon as it comes. */
async function acquire(mutex: Mutex, signal: AbortSignal): Promise<() => void> {
  const turn = mutex.acquire();
  try {
    return await abandonable(turn, signal);
  } catch (error) {
    void turn.then((release) => release());
    throw error;
  }
}
