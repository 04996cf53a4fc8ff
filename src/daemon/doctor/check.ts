/** What a check of `banger doctor` is: a value with a name, a time limit and a function that looks and changes nothing. */

import type { DoctorGroup, DoctorSeverity } from '../../api/results/doctor.ts';

/** Something `doctor --fix` can do about an outcome. Only what is safe, whoever wrote the files it is about. */
export interface Repair {
  /** As a command a person could type, or a sentence: `chmod 600 /…/state.db`. The same problem has the same text. */
  readonly what: string;
  /** Waits for the instance lock, so that no daemon comes to life meanwhile. */
  readonly needsLock: boolean;
  /** Looks again before it acts; throws when it cannot, or must not. */
  readonly apply: () => Promise<void>;
}

/** One thing a check found. */
export interface Outcome {
  readonly severity: DoctorSeverity;
  /** A sentence without its full stop: what is, with the figures. */
  readonly found: string;
  /** What to run or change. */
  readonly fix?: string;
  readonly repair?: Repair;
}

export interface Check<Context> {
  /** `group.check`: stable, and a row of docs/doctor.md. */
  readonly id: `${DoctorGroup}.${string}`;
  readonly group: DoctorGroup;
  readonly title: string;
  readonly timeoutMs: number;
  /** How long it may take to remove what it made, once it is told to end. Default 0: it makes nothing. */
  readonly windUpMs?: number;
  /** Runs with `--deep` only: it takes long, or starts a machine. */
  readonly deep?: boolean;
  /**
   * Runs after the others, by itself: it works synchronously (SQLite) and would hold up their clocks, or shows a
   * progress of its own.
   */
  readonly alone?: boolean;
  /**
   * One outcome, or one for each thing that is wrong; never none. Must end soon after the signal aborts. What it throws
   * becomes a failure of its own.
   */
  readonly run: (context: Context, signal: AbortSignal) => Promise<Outcome | readonly Outcome[]>;
}

type Extra = Pick<Outcome, 'fix' | 'repair'>;

export function ok(found: string): Outcome {
  return { severity: 'ok', found };
}

export function info(found: string, extra: Extra = {}): Outcome {
  return { severity: 'info', found, ...extra };
}

export function warning(found: string, extra: Extra = {}): Outcome {
  return { severity: 'warning', found, ...extra };
}

export function failure(found: string, extra: Extra = {}): Outcome {
  return { severity: 'failure', found, ...extra };
}

/** What is wrong, or that nothing is. */
export function orOk(problems: readonly Outcome[], found: string): readonly Outcome[] {
  return problems.length === 0 ? [ok(found)] : problems;
}
