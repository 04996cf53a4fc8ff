/** The steps of a restore into place, in their order. */

/**
 * `verify`: the artifact, before anything is touched · `lock`: the state directory · `settle`: an unfinished restore ·
 * `sweep`: what killed ones left · `check_target`: what is there, and may it be replaced · `build`: the new database in a
 * temporary directory · `migrate`: it to this program's schema · `check`: its integrity and its rows · `seal`: make it one
 * durable file · `write_plan`: how to undo what follows · `fold`: the old database into one file · `keep_previous`: it under
 * another name · `recheck`: that nobody changed it meanwhile · `rename`: the new one into its place · `sync_directory` ·
 * `remove_plan`.
 */
export const BOOTSTRAP_STEPS = [
  'verify',
  'lock',
  'settle',
  'sweep',
  'check_target',
  'build',
  'migrate',
  'check',
  'seal',
  'write_plan',
  'fold',
  'keep_previous',
  'recheck',
  'rename',
  'sync_directory',
  'remove_plan',
] as const;

export type BootstrapStep = (typeof BOOTSTRAP_STEPS)[number];

/** Says that a step begins. Rejects when the restore was cancelled. */
export type EnterStep = (step: BootstrapStep) => Promise<void>;

/** Until this one begins, a restore can be cancelled, and nothing has changed. */
const LAST_CANCELLABLE: BootstrapStep = 'write_plan';

export function isCancellable(step: BootstrapStep): boolean {
  return BOOTSTRAP_STEPS.indexOf(step) <= BOOTSTRAP_STEPS.indexOf(LAST_CANCELLABLE);
}
