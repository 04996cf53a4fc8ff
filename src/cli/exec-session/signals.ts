/** Signals this process gets, on their way to the program in the guest. */

import type { SignalSource } from './types.ts';

/** Numbers on Linux, on every architecture that banger runs on: signal(7). */
const FORWARDED = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
} as const;
type ForwardedName = keyof typeof FORWARDED;

/** Those that ask for the end. */
const ENDING: ReadonlySet<ForwardedName> = new Set(['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM']);
/** Those that mean this process and not the program, when the program has the terminal's keys already. */
const ENDING_A_TERMINAL: ReadonlySet<ForwardedName> = new Set(['SIGHUP', 'SIGTERM']);
const REPEAT_WITHIN_MS = 3000;

export interface SignalHandling {
  readonly source: SignalSource;
  /** The terminal is in raw mode: Ctrl-C is a byte of stdin, and a signal comes from somewhere else. */
  readonly raw: boolean;
  forward(number: number): void;
  /** Told instead of `forward`: for a signal repeated within 3 s, because the program ignores it; and in raw mode for SIGHUP and SIGTERM. */
  giveUp(number: number): void;
}

/** Returns what gives the signals back. */
export function handleSignals(handling: SignalHandling): () => void {
  const { source, raw } = handling;
  const lastMs = new Map<ForwardedName, number>();
  const onSignal = (name: ForwardedName) => {
    const nowMs = performance.now();
    const repeated = ENDING.has(name) && nowMs - (lastMs.get(name) ?? -Infinity) < REPEAT_WITHIN_MS;
    lastMs.set(name, nowMs);
    if (repeated || (raw && ENDING_A_TERMINAL.has(name))) handling.giveUp(FORWARDED[name]);
    else handling.forward(FORWARDED[name]);
  };
  const listeners = (Object.keys(FORWARDED) as ForwardedName[]).map(
    (name) => [name, () => onSignal(name)] as const,
  );
  for (const [name, listener] of listeners) source.on(name, listener);
  return () => {
    for (const [name, listener] of listeners) source.off(name, listener);
  };
}
