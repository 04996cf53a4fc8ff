/**
 * Runs checks so that none can harm another: each has its own time limit, and one that throws, hangs or returns
 * nonsense is a finding about itself.
 */

import { z } from 'zod';
import { DOCTOR_SEVERITIES, type DoctorFinding } from '../../api/results/doctor.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import type { Check, Outcome } from './check.ts';

export interface CheckResult {
  readonly id: string;
  readonly outcomes: readonly Outcome[];
  readonly findings: readonly DoctorFinding[];
}

export interface RunChecksOptions {
  /** Ends everything: the client cancelled or went away. */
  readonly signal: AbortSignal;
  /** Called before each check, with how many are done. */
  readonly onProgress?: (title: string, done: number, total: number) => void;
  /** How many run at once. Default 4: they wait for programs and disks most of the time. */
  readonly concurrency?: number;
}

const DEFAULT_CONCURRENCY = 4;
const MAX_OUTCOMES = 100;
const MAX_TEXT = 2000;

/**
 * The results in the order of the checks, whatever the order they ended in.
 * @throws {BangerError} `cancelled`
 */
export async function runChecks<Context>(
  checks: readonly Check<Context>[],
  context: Context,
  options: RunChecksOptions,
): Promise<readonly CheckResult[]> {
  const results = new Map<Check<Context>, CheckResult>();
  const runOne = async (check: Check<Context>): Promise<void> => {
    throwIfCancelled(options.signal);
    options.onProgress?.(check.title, results.size, checks.length);
    results.set(check, await runCheck(check, context, options.signal));
  };
  const together = checks.filter((check) => check.alone !== true);
  await inParallel(together, options.concurrency ?? DEFAULT_CONCURRENCY, runOne);
  for (const check of checks) if (check.alone === true) await runOne(check);
  throwIfCancelled(options.signal);
  return checks.flatMap((check) => results.get(check) ?? []);
}

async function inParallel<T>(items: readonly T[], limit: number, work: (item: T) => Promise<void>) {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
}

async function runCheck<Context>(
  check: Check<Context>,
  context: Context,
  signal: AbortSignal,
): Promise<CheckResult> {
  const started = performance.now();
  const outcomes = await outcomesOf(check, context, signal);
  const durationMs = Math.round(performance.now() - started);
  const { id, group, title } = check;
  const findings = outcomes.map(({ severity, found, fix, repair }) => ({
    id,
    group,
    title,
    severity,
    found,
    fix: fix ?? null,
    fixable: repair !== undefined,
    durationMs,
  }));
  return { id, outcomes, findings };
}

/** Never rejects. */
async function outcomesOf<Context>(
  check: Check<Context>,
  context: Context,
  outer: AbortSignal,
): Promise<readonly Outcome[]> {
  const limit = new AbortController();
  const signal = AbortSignal.any([outer, limit.signal]);
  const ended = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    ended.reject(new Error(`it did not end within ${check.timeoutMs} ms`));
    limit.abort();
  }, check.timeoutMs);
  const onCancel = (): void => ended.reject(new Error('it was cancelled'));
  outer.addEventListener('abort', onCancel, { once: true });
  // `async`: a check that throws before its first promise is no exception to the rule.
  const work = (async () => await check.run(context, signal))();
  try {
    // The race listens to both for good: what the check does after its end was decided disturbs nobody.
    return readOutcomes(await Promise.race([work, ended.promise]));
  } catch (error) {
    await settledWithin(work, check.windUpMs ?? 0);
    return [itself(error)];
  } finally {
    clearTimeout(timer);
    outer.removeEventListener('abort', onCancel);
  }
}

/** Never rejects. The process ends after its last check, and with it whatever one of them had yet to remove. */
async function settledWithin(work: Promise<unknown>, limitMs: number): Promise<void> {
  const over = Promise.withResolvers<void>();
  const timer = setTimeout(over.resolve, limitMs);
  await Promise.race([Promise.allSettled([work]), over.promise]);
  clearTimeout(timer);
}

/** Anything can be thrown, also what has no text. */
function reasonOf(error: unknown): string {
  try {
    return printable(errorText(error));
  } catch {
    return 'it threw something that has no text';
  }
}

function itself(error: unknown): Outcome {
  const reason = reasonOf(error);
  if (isDenied(error)) {
    const fix = 'the security checks say whose it is; sudo chown mends what another user made';
    return { severity: 'failure', found: `this user may not look: ${reason}`, fix };
  }
  const hint = error instanceof BangerError ? error.hint : undefined;
  const found = `the check itself failed: ${reason}`;
  return { severity: 'failure', found, ...(hint === undefined ? {} : { fix: printable(hint) }) };
}

/** Of the file system, or in our words: what a check meets in a home of another user. */
function isDenied(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === 'EACCES' || code === 'EPERM' || code === 'permission';
}

const text = z.string().min(1).transform(printable);
const outcomeSchema = z.strictObject({
  severity: z.enum(DOCTOR_SEVERITIES),
  found: text,
  fix: text.optional(),
  repair: z
    .custom<NonNullable<Outcome['repair']>>(
      (value) => typeof value === 'object' && value !== null && 'what' in value && 'apply' in value,
    )
    .optional(),
});

/** Checks carry texts from damaged files; what they return is checked like any input. */
function readOutcomes(value: unknown): readonly Outcome[] {
  const list = z
    .array(outcomeSchema)
    .min(1)
    .safeParse(Array.isArray(value) ? value : [value]);
  if (!list.success) {
    throw new Error(`it returned nonsense: ${z.prettifyError(list.error).replaceAll('\n', ' ')}`);
  }
  const outcomes = list.data as readonly Outcome[];
  if (outcomes.length <= MAX_OUTCOMES) return outcomes;
  const shown = outcomes.slice(0, MAX_OUTCOMES);
  const worst = worstOf(outcomes.slice(MAX_OUTCOMES).map(({ severity }) => severity));
  return [...shown, { severity: worst, found: `… and ${outcomes.length - MAX_OUTCOMES} more like these` }];
}

/** For terminals: names of files and texts of guests may hold anything. */
function printable(value: string): string {
  const clean = value.replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  if (clean === '') return '(nothing that can be printed)';
  return clean.length <= MAX_TEXT ? clean : `${clean.slice(0, MAX_TEXT)} …`;
}

/** `ok` for none. */
export function worstOf(severities: readonly DoctorFinding['severity'][]): DoctorFinding['severity'] {
  const worst = Math.max(0, ...severities.map((one) => DOCTOR_SEVERITIES.indexOf(one)));
  return DOCTOR_SEVERITIES[worst] ?? 'failure';
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
}
