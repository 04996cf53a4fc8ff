/** Writes a stream's output to stdout or stderr, and knows what the other end has taken. */

import type { SessionOutput } from './types.ts';

export class OutputWriter {
  readonly #target: SessionOutput;
  readonly #onFailure: (error: NodeJS.ErrnoException) => void;
  #waiting = 0;
  #failed = false;
  #onDrained: (() => void) | undefined;

  /** @param onFailure told once, when the target cannot be written any more; from then on output is dropped */
  constructor(target: SessionOutput, onFailure: (error: NodeJS.ErrnoException) => void) {
    this.#target = target;
    this.#onFailure = onFailure;
    target.on('error', this.#onError);
  }

  /** `taken` is called once the system has the bytes, or they were dropped. */
  write(chunk: Uint8Array, taken: () => void): void {
    if (this.#failed) {
      taken();
      return;
    }
    this.#waiting++;
    this.#target.write(chunk, (error) => {
      this.#waiting--;
      if (error) this.#onError(error);
      taken();
      if (this.#waiting === 0) this.#onDrained?.();
    });
  }

  /** Resolves once everything written was taken or dropped. One caller at a time. */
  drained(): Promise<void> {
    if (this.#waiting === 0 || this.#failed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onDrained = resolve;
    });
  }

  /** Gives the target back. One that failed keeps its listener: a late error event would end the process. */
  dispose(): void {
    if (!this.#failed) this.#target.off('error', this.#onError);
  }

  readonly #onError = (error: NodeJS.ErrnoException): void => {
    if (this.#failed) return;
    this.#failed = true;
    this.#onFailure(error);
    this.#onDrained?.();
  };
}
