/** The first copy of a repository in a VM that runs. */

import { stat } from 'node:fs/promises';
import type { CheckedParamsOf } from '../../../api/contract.ts';
import type { WorkspacePrepared } from '../../../api/results/workspace.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { VmWorkspace } from '../../../core/model/workspace.ts';
import type { ToolingPlan } from '../../../core/toolingplan/model.ts';
import { toolsAfter } from '../../../core/toolingplan/workspace-tools.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { run } from '../../../guest/run.ts';
import type { WorkspacePlanData } from '../../../workspace/plan.ts';
import type { OperationHandle } from '../../operations.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import { placeFullCopy } from './workspace-full-copy.ts';
import {
  mountWorkspace,
  type Placement,
  placementOf,
  recordOf,
  type WorkspaceService,
} from './workspace-service.ts';

export interface FirstCopyDeps {
  readonly workspaces: WorkspaceService;
  readonly registry: VmRegistry;
  /** Writes the VM's row. */
  readonly record: (workspace: VmWorkspace | null) => Promise<void>;
}

export interface PrepareJob {
  readonly vm: VmRecord;
  readonly agent: AgentClient;
  readonly params: CheckedParamsOf<'workspace.prepare'>;
  readonly operation: OperationHandle;
}

export type PrepareOutcome = Omit<WorkspacePrepared, 'vm' | 'elapsedMs'>;

const LOOK_TIMEOUT_MS = 10_000;
/** Of paths in an answer: more are not for reading. */
export const MAX_LISTED_PATHS = 1000;

/** @throws {BangerError} what planning and shipping throw; `already_exists`: there are files at its place */
export async function makeFirstCopy(
  { workspaces, registry, record }: FirstCopyDeps,
  job: PrepareJob,
): Promise<PrepareOutcome> {
  const { vm, params, operation } = job;
  const { path } = params;
  if (path === undefined) {
    throw new BangerError('bad_request', `VM "${vm.name}" has no copy of a repository yet`, {
      hint: `say of which: banger vm workspace prepare ${vm.name} PATH`,
    });
  }
  const placement = placementOf(params);
  const { includeUntracked = false, branch, from, mode } = params;
  const plan = await workspaces.plan({ path, includeUntracked, branch, from, mode }, operation.signal);
  const tools = await workspaces.tools(plan, operation.signal);
  const outcome = createdOutcome(plan, placement, tools);
  const files = registry.files(vm.id);
  const isWhole = placement.mode === 'full_copy';
  if (!isWhole) await assertOwnDisk(vm.name, files.transferDisk);
  if (!params.force || isWhole) await assertEmpty(job, placement);
  if (params.dryRun) return outcome;
  const { progress, signal } = operation;
  const shipped = isWhole
    ? await workspaces.sendWhole(job.agent, plan, placement, files, progress, signal)
    : await workspaces.writeImage(plan, files, progress, signal);
  await placeCopy(job, recordOf(plan, placement, tools, shipped), record);
  return outcome;
}

/**
 * Puts a copy that is ready in its place; may be done again. The row has it before: the next prepare must never write to a disk
 * that is mounted. It goes on from here unless the guest itself has refused: one that was asked may do it when nobody waits for
 * its answer any more.
 * @returns the copy as it is in the row then
 * @throws {BangerError} `guest_failed`: the row has none then; `timeout`, `cancelled`, `channel_broken`
 */
export async function placeCopy<T extends VmWorkspace>(
  { agent, operation }: Pick<PrepareJob, 'agent' | 'operation'>,
  workspace: T,
  record: FirstCopyDeps['record'],
): Promise<Omit<T, 'unplaced'>> {
  const { unplaced: _, ...copy } = workspace;
  await record({ ...copy, unplaced: true });
  operation.progress({ step: 'workspace', text: 'putting the copy in its place' });
  try {
    await bringIntoPlace(agent, copy, operation.signal);
  } catch (error) {
    if (error instanceof BangerError && error.code === 'guest_failed') await record(null);
    throw error;
  }
  await record(copy);
  return copy;
}

function createdOutcome(
  plan: WorkspacePlanData,
  { guestPath }: Placement,
  tools: ToolingPlan,
): PrepareOutcome {
  const { sourcePath, headCommit, files, untrackedLeft, displayPaths } = plan;
  return {
    ...{ guestPath, sourcePath, headCommit, files, untrackedLeft },
    outcome: 'created',
    previousHead: null,
    deleted: 0,
    paths: displayPaths.slice(0, MAX_LISTED_PATHS),
    patch: null,
    tools: toolsAfter(null, tools).isNew ? tools : null,
  };
}

/** Snapshots and copies of a VM have its disks under other names. */
async function assertOwnDisk(vmName: string, transferDisk: string): Promise<void> {
  if ((await stat(transferDisk)).nlink === 1) return;
  throw new BangerError(
    'in_use',
    `the second disk of VM "${vmName}" belongs to a snapshot or a copy of it, too`,
    {
      hint: `stop and start the VM first: banger vm restart ${vmName}`,
    },
  );
}

export async function bringIntoPlace(
  agent: AgentClient,
  placement: Placement,
  signal: AbortSignal,
): Promise<void> {
  if (placement.mode === 'full_copy') await placeFullCopy(agent, placement.guestPath, signal);
  else await mountWorkspace(agent, placement, signal);
}

/** @throws {BangerError} `already_exists` */
async function assertEmpty(
  { vm, agent, operation }: PrepareJob,
  { guestPath, mode }: Placement,
): Promise<void> {
  const listed = await run(
    agent,
    { argv: ['find', guestPath, '-mindepth', '1', '-maxdepth', '1', '-print', '-quit'], cwd: '/' },
    { signal: operation.signal, timeoutMs: LOOK_TIMEOUT_MS, maxOutputBytes: 64 * 1024 },
  );
  if (listed.stdout.length === 0) return;
  throw new BangerError('already_exists', `there are files at ${guestPath} in VM "${vm.name}"`, {
    hint:
      mode === 'full_copy'
        ? 'give another place with --guest-path, or move them away'
        : 'give another place with --guest-path, or add --force to put the copy over them',
  });
}
