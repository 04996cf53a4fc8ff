/** A call that may take a while: progress is shown, and Ctrl-C cancels it and waits until the daemon has undone it. */

import type { Method, ParamsOf, Progress, ResultOf } from '../api/contract.ts';
import type { CliClient, CliContext } from './cli-context.ts';
import { createProgress, type ProgressDisplay } from './output/progress.ts';

const CANCELLING: Progress = { step: 'cancel', text: 'cancelling; Ctrl-C again to quit at once' };
const FINISHING: Progress = { step: 'finish', text: 'cleaning up; Ctrl-C again to quit at once' };

export interface LongWork {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
  readonly display: ProgressDisplay;
}

/**
 * Runs `work` with a signal that Ctrl-C aborts and a progress display that is gone when it settles.
 * With `finish`, for work that cleans up, the signal never aborts: a first Ctrl-C only says how to quit.
 */
export async function withProgress<T>(
  context: CliContext,
  work: (work: LongWork) => Promise<T>,
  onInterrupt: 'cancel' | 'finish' = 'cancel',
): Promise<T> {
  const farewell = onInterrupt === 'cancel' ? CANCELLING : FINISHING;
  using display = createProgress(context);
  using interruption = context.ports.interruption(() => display.update(farewell));
  const interrupted = interruption.signal;
  return await work({
    signal: onInterrupt === 'cancel' ? interrupted : new AbortController().signal,
    onProgress: (progress) => display.update(interrupted.aborted ? farewell : progress),
    display,
  });
}

export function longCall<M extends Method>(
  context: CliContext,
  client: CliClient,
  method: M,
  params: ParamsOf<M>,
): Promise<ResultOf<M>> {
  return withProgress(context, ({ signal, onProgress }) =>
    client.call(method, params, { signal, onProgress }),
  );
}
