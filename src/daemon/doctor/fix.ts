/** Applies what checks offer to mend, one thing after the other, and looks again after each. */

import type { DoctorFix } from '../../api/results/doctor.ts';
import { errorText } from '../../core/errors.ts';
import { acquireInstanceLock, type InstanceLock } from '../../host/instance-lock.ts';
import type { OperationHandle } from '../operations.ts';
import type { Check, Repair } from './check.ts';
import { DoctorContext, type DoctorSetting } from './context.ts';
import { runChecks } from './run-checks.ts';

type Checks = readonly Check<DoctorContext>[];

export interface FixOptions {
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  readonly progress: OperationHandle['progress'];
}

interface Planned {
  readonly check: Check<DoctorContext>;
  readonly repair: Repair;
}

const MAX_REPAIRS = 1000;

export async function fixAll(
  checks: Checks,
  setting: DoctorSetting,
  options: FixOptions,
): Promise<readonly DoctorFix[]> {
  const plan = await planOf(checks, setting, options);
  if (options.dryRun) return plan.map(({ check, repair }) => toldFix(check.id, repair, null, null));
  const [locked, free] = [plan.filter(needsLock), plan.filter((one) => !needsLock(one))];
  const done = await applyAll(free, setting, options);
  if (locked.length === 0) return done;
  let lock: InstanceLock;
  try {
    lock = await acquireInstanceLock(setting.paths.lockFile, { pid: process.pid });
  } catch (error) {
    return [
      ...done,
      ...locked.map(({ check, repair }) => toldFix(check.id, repair, false, errorText(error))),
    ];
  }
  using _held = lock;
  // A daemon may have come and gone since the plan was made: what is not so any more is not done.
  const again = await planOf([...new Set(locked.map(({ check }) => check))], setting, options);
  const gone = locked.filter((one) => !again.some(({ repair }) => repair.what === one.repair.what));
  return [
    ...done,
    ...gone.map(({ check, repair }) => toldFix(check.id, repair, true, null)),
    ...(await applyAll(again.filter(needsLock), setting, options)),
  ];
}

function needsLock({ repair }: Planned): boolean {
  return repair.needsLock;
}

/** Fresh facts each time: what was found out before a repair does not hold after it. */
async function planOf(
  checks: Checks,
  setting: DoctorSetting,
  options: FixOptions,
): Promise<readonly Planned[]> {
  const { signal, progress } = options;
  await using context = new DoctorContext(setting, { deep: false, progress });
  const results = await runChecks(checks, context, {
    signal,
    onProgress: (title, done, total) =>
      progress({ step: 'look', text: `looking at: ${title}`, done, total, unit: 'items' }),
  });
  const planned = checks.flatMap((check) => {
    const outcomes = results.find(({ id }) => id === check.id)?.outcomes ?? [];
    return outcomes.flatMap(({ repair }) => (repair === undefined ? [] : [{ check, repair }]));
  });
  return planned.slice(0, MAX_REPAIRS);
}

async function applyAll(
  plan: readonly Planned[],
  setting: DoctorSetting,
  options: FixOptions,
): Promise<readonly DoctorFix[]> {
  const fixes: DoctorFix[] = [];
  for (const { check, repair } of plan) {
    options.progress({
      step: 'fix',
      text: repair.what,
      done: fixes.length,
      total: plan.length,
      unit: 'items',
    });
    try {
      await repair.apply();
    } catch (error) {
      fixes.push(toldFix(check.id, repair, false, errorText(error)));
      continue;
    }
    const left = await planOf([check], setting, options);
    const isLeft = left.some((one) => one.repair.what === repair.what);
    fixes.push(toldFix(check.id, repair, !isLeft, isLeft ? 'it was done, and is still so' : null));
  }
  return fixes;
}

function toldFix(id: string, { what }: Repair, done: boolean | null, error: string | null): DoctorFix {
  return { id, what, done, error };
}
