/** The register of requests under way: what `operation list` shows and `operation cancel` ends. */

import type { Method, Progress } from '../api/contract.ts';
import type { OperationSummary } from '../api/results/daemon.ts';
import { BangerError } from '../core/errors.ts';

interface Operation {
  readonly id: string;
  readonly method: Method;
  readonly startedAt: string;
  readonly abort: AbortController;
  subject: string | null;
  progress: Progress | null;
}

/** What an operation tells about itself while it runs. */
export interface OperationHandle {
  /** Aborts when the client cancels or hangs up, or when `operation cancel` names this operation. */
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
  /** Names the VM or image once it is known. */
  readonly about: (subject: string) => void;
}

export class Operations {
  readonly #running = new Map<string, Operation>();
  readonly #now: () => string;

  constructor(now: () => string) {
    this.#now = now;
  }

  get size(): number {
    return this.#running.size;
  }

  async run<T>(
    request: {
      readonly operationId: string;
      readonly method: Method;
      readonly signal: AbortSignal;
      readonly progress: (progress: Progress) => void;
    },
    work: (operation: OperationHandle) => Promise<T>,
  ): Promise<T> {
    const operation: Operation = {
      id: request.operationId,
      method: request.method,
      startedAt: this.#now(),
      abort: new AbortController(),
      subject: null,
      progress: null,
    };
    this.#running.set(operation.id, operation);
    try {
      return await work({
        signal: AbortSignal.any([request.signal, operation.abort.signal]),
        progress: (progress) => {
          operation.progress = progress;
          request.progress(progress);
        },
        about: (subject) => {
          operation.subject = subject;
        },
      });
    } finally {
      this.#running.delete(operation.id);
    }
  }

  list(): readonly OperationSummary[] {
    return [...this.#running.values()].map(({ id, method, startedAt, subject, progress }) => ({
      id,
      method,
      startedAt,
      subject,
      progress,
    }));
  }

  /** @throws {BangerError} `not_found` */
  cancel(id: string): void {
    const operation = this.#running.get(id);
    if (operation === undefined) {
      throw new BangerError('not_found', `no operation "${id}" is running`, {
        hint: 'banger operation list shows those that are',
      });
    }
    operation.abort.abort();
  }

  /** Ends everything under way: the daemon is stopping. */
  cancelAll(): void {
    for (const operation of this.#running.values()) operation.abort.abort();
  }
}
