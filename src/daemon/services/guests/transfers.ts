/**
 * Transfers into and out of guests: they hold no lock of the VM's, so that a long one keeps nobody from stopping or deleting it;
 * that ends the transfer.
 */

import { BangerError } from '../../../core/errors.ts';
import { KeyedLock } from '../../keyed-lock.ts';

export class Transfers {
  readonly #running = new Map<string, Set<AbortController>>();
  readonly #workspaces = new KeyedLock();

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

  /** As `run`, for what reads or changes the VM's workspace as a whole: one at a time. */
  async runAlone<T>(
    vmId: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return await this.run(vmId, signal, (joined) => this.#workspaces.run(vmId, joined, () => work(joined)));
  }

  /** Ends all of the VM's. `why` is what they say: `VM "dev" is being stopped`. */
  cancel(vmId: string, why: string): void {
    for (const transfer of this.#running.get(vmId) ?? [])
      transfer.abort(new BangerError('invalid_state', why));
  }
}
