/** Starts from templates that came to nothing: what is counted, and what follows from it. */

import { BangerError, errorText } from '../../../core/errors.ts';
import { now } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import type { Template, TemplateStore } from '../../../frozen/template-store.ts';

/** A template from which this many starts have failed is made anew. */
const MAX_FAILURES = 2;
/**
 * After this many failures in a day, over several templates of one key, this host cannot restore that: starts that wait
 * for the watchdog again and again are worse than boots.
 */
export const MAX_FAILURES_A_DAY = 4;
const DAY_MS = 24 * 60 * 60_000;
const MAX_REASON = 1000;

export class TemplateFailures {
  readonly #store: Pick<TemplateStore, 'failures' | 'find' | 'forgetFailures' | 'noteFailure'>;
  readonly #log: Log;

  constructor(store: Pick<TemplateStore, 'failures' | 'find' | 'forgetFailures' | 'noteFailure'>, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** @returns whether the template is not to be used again */
  async note({ key, manifest }: Template, error: unknown): Promise<boolean> {
    const reason = errorText(error).slice(0, MAX_REASON);
    if ((await this.#store.find(key)) === undefined) {
      // Collected in the very moment of its use.
      this.#log.info({ key, reason }, 'a template went away while a VM was started from it; booting instead');
      return false;
    }
    this.#log.warn({ key, reason }, 'a start from a template failed; booting instead');
    await this.#store.noteFailure({ at: now(), key, image: manifest.image.name, reason });
    if (error instanceof BangerError && error.code === 'verify_failed') return true;
    const failures = await this.#store.failures();
    return failures.filter((one) => one.key === key && one.at >= manifest.createdAt).length >= MAX_FAILURES;
  }

  async isDistrusted(key: string): Promise<boolean> {
    const since = new Date(Date.now() - DAY_MS).toISOString();
    const failures = await this.#store.failures();
    return failures.filter((one) => one.key === key && one.at >= since).length >= MAX_FAILURES_A_DAY;
  }

  async forgive(key: string): Promise<void> {
    await this.#store.forgetFailures(key);
  }
}
