/** Work that accompanies a start: begun beside the boot, finished in the guest. */

import type { AgentClient } from '../../../guest/agent-client.ts';
import type { VmFiles } from '../../vm-files.ts';

/** Work that runs beside the boot and is finished inside the guest once it answers (a workspace being shipped). */
export interface GuestErrand {
  /** It writes to the transfer disk, which must then be this VM's alone. */
  readonly ships: boolean;
  /** Begins at once, while the machine boots. */
  readonly prepare: (files: VmFiles, signal: AbortSignal) => Promise<void>;
  /** Runs in the guest after `prepare`. */
  readonly finish: (agent: AgentClient, signal: AbortSignal) => Promise<void>;
}

export interface BegunErrand {
  /** Aborts with the operation, and when the errand's preparation fails: there is no use in booting on. */
  readonly signal: AbortSignal;
  readonly prepared: Promise<void>;
  readonly abort: () => void;
  /** Waits for work on that signal; when the preparation's failure ended it, throws that failure instead. */
  readonly orItsFailure: <T>(work: Promise<T>) => Promise<T>;
}

/** Begins the preparation now; without an errand there is nothing to wait for. */
export function beginErrand(
  errand: GuestErrand | undefined,
  files: VmFiles,
  outer: AbortSignal,
): BegunErrand {
  const own = new AbortController();
  const signal = AbortSignal.any([outer, own.signal]);
  const prepared = errand === undefined ? Promise.resolve() : errand.prepare(files, signal);
  let failure: unknown;
  prepared.catch((error: unknown) => {
    if (!signal.aborted) failure = error;
    own.abort();
  });
  const orItsFailure = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw failure ?? error;
    }
  };
  return { signal, prepared, abort: () => own.abort(), orItsFailure };
}
