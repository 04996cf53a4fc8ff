/**
 * Transfers into and out of guests: they hold no lock of the VM's, so that a long one keeps nobody from stopping or deleting it;
 * that ends the transfer.
 */

import { BangerError } from '../../../core/errors.ts';
import { KeyedLock } from '../../keyed-lock.ts';

/** The end of a transfer that nobody has to wait for. It must not throw: nobody would hear of it. */
export type Rest = (signal: AbortSignal) => Promise<void>;

const STOP_GRACE_MS = 5_000;

export class Transfers {
  readonly #running = new Map<string, Set<AbortController>>();
  readonly #workspaces = new KeyedLock();
  readonly #rests = new Map<Promise<void>, { readonly vmId: string; readonly end: AbortController }>();

  /**
   * Runs `work` with a signal that aborts with the caller's, and when the VM is stopped or deleted.
   * @throws {BangerError} `invalid_state` naming why; what `work` throws
   */
  async run<T>(vmId: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const own = new AbortController();
    const all = this.#running.get(vmId) ?? new Set();
    this.#running.set(vmId, all.add(own));
    try {
      return await work(AbortSignal.any([signal, own.signal]));
    } catch (error) {
      // Whatever it was in the middle of failed because of that.
      throw own.signal.aborted ? own.signal.reason : error;
    } finally {
      all.delete(own);
      if (all.size === 0) this.#running.delete(vmId);
    }
  }

  /**
   * As `run`, for what reads or changes the VM's workspace as a whole: one at a time. What `work` gives to `later` is done once the
   * caller has its answer, before the next one's turn comes; only the VM's end ends it.
   */
  async runAlone<T>(
    vmId: string,
    signal: AbortSignal,
    work: (signal: AbortSignal, later: (rest: Rest) => void) => Promise<T>,
  ): Promise<T> {
    const rests: Rest[] = [];
    const { promise: answered, resolve } = Promise.withResolvers<T>();
    const done = this.run(vmId, signal, (joined) =>
      this.#workspaces.run(vmId, joined, async () => {
        resolve(await work(joined, (rest) => rests.push(rest)));
        for (const rest of rests) await this.#finish(vmId, rest);
      }),
    );
    await Promise.race([answered, done]);
    done.catch(() => undefined);
    return await answered;
  }

  /** Ends all of the VM's. `why` is what they say: `VM "dev" is being stopped`. */
  cancel(vmId: string, why: string): void {
    for (const transfer of this.#running.get(vmId) ?? [])
      transfer.abort(new BangerError('invalid_state', why));
  }

  /** Waits for what goes on behind answers; what takes too long is ended. The VM, or the daemon, stops. */
  async finish(vmId?: string): Promise<void> {
    const rests = [...this.#rests].filter(([, rest]) => vmId === undefined || rest.vmId === vmId);
    const limit = setTimeout(() => {
      for (const [, { end }] of rests) end.abort();
    }, STOP_GRACE_MS);
    await Promise.allSettled(rests.map(([finished]) => finished));
    clearTimeout(limit);
  }

  async #finish(vmId: string, rest: Rest): Promise<void> {
    const end = new AbortController();
    const finished = this.run(vmId, end.signal, rest);
    this.#rests.set(finished, { vmId, end });
    try {
      await finished;
    } finally {
      this.#rests.delete(finished);
    }
  }
}
