/** What of a plan stays with the VM, and what commands in it are wrapped in. */

import type { VmWorkspace, WorkspaceTools } from '../model/workspace.ts';
import type { ToolingPlan } from './model.ts';
import { extraTools } from './plan.ts';

/** Null: there is nothing to install. */
export function workspaceTools(plan: ToolingPlan): WorkspaceTools | null {
  const extra = extraTools(plan);
  if (!plan.required && extra.length === 0) return null;
  return { required: plan.required, trust: plan.miseConfigs, extra };
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
