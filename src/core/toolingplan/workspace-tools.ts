/** What of a plan stays with the VM, and what commands in it are wrapped in. */

import type { VmWorkspace, WorkspaceTools } from '../model/workspace.ts';
import type { ToolingPlan } from './model.ts';
import { extraTools } from './plan.ts';

/** Null: there is nothing to install. */
export function workspaceTools(plan: ToolingPlan): WorkspaceTools | null {
  const extra = extraTools(plan);
  if (!plan.required && extra.length === 0) return null;
  const asked = plan.tools.map(({ tool, version }) => `${tool}@${version}`);
  return { required: plan.required, trust: plan.miseConfigs, extra, asked };
}

export interface ToolsAfter {
  readonly tools: WorkspaceTools | null;
  /** Something is asked for that was not before. */
  readonly isNew: boolean;
}

/** What is asked for after a repository was shipped again: what is installed counts on, where it is all that is asked for. */
export function toolsAfter(before: WorkspaceTools | null, plan: ToolingPlan): ToolsAfter {
  const now = workspaceTools(plan);
  if (now === null) return { tools: null, isNew: false };
  const isWithin = (some: readonly string[], all: readonly string[] = []): boolean =>
    some.every((one) => all.includes(one));
  const isKnown =
    before !== null &&
    (before.required || !now.required) &&
    isWithin(now.trust, before.trust) &&
    isWithin(now.extra, before.extra) &&
    (before.asked === undefined || isWithin(now.asked ?? [], before.asked));
  const mise = isKnown ? before.mise : undefined;
  return { tools: { ...now, ...(mise !== undefined && { mise }) }, isNew: !isKnown };
}

/**
 * The command line by which a program finds the tools of the workspace it is started in: as it is where none were
 * installed, and outside of the workspace. A shell (no argv) is started as it is: its profile sets PATH itself.
 */
export function withTools(
  argv: readonly string[],
  cwd: string,
  workspace: Pick<VmWorkspace, 'guestPath' | 'tools'> | null,
): readonly string[] {
  const tools = workspace?.tools ?? null;
  if (workspace === null || tools?.mise === undefined || argv.length === 0) return argv;
  const inside = cwd === workspace.guestPath || cwd.startsWith(`${workspace.guestPath}/`);
  return inside ? [tools.mise, 'exec', ...tools.extra, '--', ...argv] : argv;
}
