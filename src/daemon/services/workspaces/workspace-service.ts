/** Copies of host repositories in guests: planned before anything is created, shipped while the guest boots. */

import type { CheckedParamsOf, Progress } from '../../../api/contract.ts';
import type { WorkspacePlan, WorkspaceReport } from '../../../api/results/workspace.ts';
import { assertGuestPath, DEFAULT_GUEST_PATH } from '../../../core/guest-path.ts';
import { BangerError } from '../../../core/errors.ts';
import type { SourcedWorkspace, VmWorkspace, WorkspaceMode } from '../../../core/model/workspace.ts';
import type { ToolingPlan } from '../../../core/toolingplan/model.ts';
import { planTools } from '../../../core/toolingplan/plan.ts';
import { workspaceTools } from '../../../core/toolingplan/workspace-tools.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import type { UnpackRequest } from '../../../guest/payloads.ts';
import { now } from '../../../host/clock.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { planWorkspace, type WorkspacePlanData } from '../../../workspace/plan.ts';
import { withFullCopy } from '../../../workspace/full-copy.ts';
import { buildWorkspaceImage } from '../../../workspace/ship.ts';
import { hiddenEntries } from '../../../workspace/shipped-commit.ts';
import { writeShippedRecords } from '../../../workspace/shipped-record.ts';
import { readToolFiles, readToolFilesNow } from '../../../workspace/tool-files.ts';
import type { VmFiles } from '../../vm-files.ts';
import type { GuestErrand } from '../guests/guest-errand.ts';
import { keepFullCopyRecords, placeFullCopy, sendFullCopy, type ShippedCopy } from './workspace-full-copy.ts';

/** The transfer disk is the second one. */
const TRANSFER_DEVICE = '/dev/vdb';
const LABEL = 'workspace';
/** Where the agent keeps what the guest changes of a copy that lies on the transfer disk: docs/agent-protocol.md, MOUNT. */
const OVERLAY_UPPER = `/var/lib/banger/${LABEL}/upper`;
/** Where a read-only copy can be written to. */
export const READ_ONLY_BASE = `/var/lib/banger/${LABEL}/merged`;
/** Where git does not look, and nobody else writes. */
const STAGING = '.git/banger-new';

/** How what is sent into a copy goes there: one archive at a time. */
export function archiveInto({
  guestPath,
  mode,
  readOnly,
}: Pick<VmWorkspace, 'guestPath' | 'mode' | 'readOnly'>): UnpackRequest {
  const layer = mode === 'full_copy' ? {} : { upper: OVERLAY_UPPER };
  const base = readOnly ? READ_ONLY_BASE : guestPath;
  return { base, ...layer, staging: STAGING, marksShipped: true, baseMustExist: readOnly };
}

/** Of files between two reports of progress. */
const PROGRESS_STEP = 250;

/** Where a copy goes, and how. */
export interface Placement {
  readonly guestPath: string;
  readonly mode: WorkspaceMode;
  readonly readOnly: boolean;
}

/** A copy on its way. */
export interface Shipping {
  readonly errand: GuestErrand;
  /** For the row, once the errand is done. */
  record(): VmWorkspace;
}

type ReportProgress = (progress: Progress) => void;

export class WorkspaceService {
  readonly #paths: BangerPaths;
  readonly #runner: CommandRunner;

  constructor(deps: { paths: BangerPaths; runner: CommandRunner }) {
    this.#paths = deps.paths;
    this.#runner = deps.runner;
  }

  /** Looks at a repository and refuses what cannot be shipped. Creates nothing. */
  async plan(source: CheckedParamsOf<'workspace.plan'>, signal: AbortSignal): Promise<WorkspacePlanData> {
    const submodules = source.mode === 'full_copy' ? 'copy' : 'refuse';
    return await planWorkspace({ ...source, submodules, runner: this.#runner, signal });
  }

  async describe(source: CheckedParamsOf<'workspace.plan'>, signal: AbortSignal): Promise<WorkspacePlan> {
    const placement = placementOf(source);
    const plan = await this.plan(source, signal);
    const tools = await this.tools(plan, signal);
    return { ...reportOf(plan, placement), mode: placement.mode, tools, paths: plan.displayPaths };
  }

  /** What the repository says it wants to be worked on with. */
  async tools(plan: WorkspacePlanData, signal: AbortSignal): Promise<ToolingPlan> {
    return planTools(await readToolFiles(plan, this.#runner, signal));
  }

  /** The same of a repository that is shipped again. */
  async toolsNow(
    workspace: Pick<SourcedWorkspace, 'sourcePath' | 'from' | 'includeUntracked'>,
    signal: AbortSignal,
  ): Promise<ToolingPlan> {
    return planTools(await readToolFilesNow(workspace, this.#runner, signal));
  }

  /** Ships a plan into a machine that is booting. */
  ship(
    plan: WorkspacePlanData,
    placement: Placement,
    tools: ToolingPlan,
    onProgress: ReportProgress,
  ): Shipping {
    let shipped: ShippedCopy | undefined;
    let vmFiles: VmFiles | undefined;
    const image: GuestErrand = {
      ships: true,
      prepare: async (files, signal) => {
        shipped = await this.writeImage(plan, files, onProgress, signal);
      },
      finish: (agent, signal) => mountWorkspace(agent, placement, signal),
    };
    const whole: GuestErrand = {
      ships: false,
      prepare: async (files) => {
        vmFiles = files;
      },
      finish: async (agent, signal) => {
        if (vmFiles === undefined) throw new Error('the errand has not been prepared');
        shipped = await this.sendWhole(agent, plan, placement, vmFiles, onProgress, signal);
        await placeFullCopy(agent, placement.guestPath, signal);
      },
    };
    return {
      errand: placement.mode === 'full_copy' ? whole : image,
      record: () => {
        if (shipped === undefined) throw new Error('the errand has not been done');
        return recordOf(plan, placement, tools, shipped);
      },
    };
  }

  /** Sends a full copy; `placeFullCopy` gives it its name. */
  async sendWhole(
    agent: AgentClient,
    plan: WorkspacePlanData,
    { guestPath }: Placement,
    files: VmFiles,
    onProgress: ReportProgress,
    signal: AbortSignal,
  ): Promise<ShippedCopy> {
    const onFile = (done: number): void => {
      if (done % PROGRESS_STEP !== 0) return;
      onProgress({ step: 'workspace', text: 'copying the repository', done, total: plan.files });
    };
    onProgress({ step: 'workspace', text: 'packing the history' });
    const { scratchDir } = this.#paths;
    return await withFullCopy({ plan, scratchDir, runner: this.#runner, signal, onFile }, async (copy) => {
      await sendFullCopy(agent, copy, guestPath, signal);
      return await keepFullCopyRecords(files, copy);
    });
  }

  /** Writes the plan's files to the VM's transfer disk, which nobody may have mounted. */
  async writeImage(
    plan: WorkspacePlanData,
    files: VmFiles,
    onProgress: ReportProgress,
    signal: AbortSignal,
  ): Promise<ShippedCopy> {
    const image = await buildWorkspaceImage({
      plan,
      imagePath: files.transferDisk,
      // Files that git does not track may be ignored tomorrow, and would stay in it.
      ...(plan.asked.includeUntracked ? {} : { keepIndexAt: files.shippedIndex }),
      scratchDir: this.#paths.scratchDir,
      runner: this.#runner,
      signal,
      onProgress: ({ text, done, total }) =>
        onProgress({
          step: 'workspace',
          text,
          ...(done === undefined ? {} : { done }),
          ...(total === undefined ? {} : { total }),
        }),
    });
    const indexStamp = plan.source.kind === 'working-tree' ? plan.source.indexStamp : '';
    const { headCommit, branch } = plan;
    const hidden = hiddenEntries(plan.source.kind === 'working-tree' ? plan.source.entries : []);
    const shipped = { ...image.shipped, staged: image.staged, headCommit, branch, indexStamp, hidden };
    await writeShippedRecords(files.shippedFile, [shipped]);
    const { commit, tree } = image.shipped;
    return { shipped: { commit, tree, branch, staged: image.staged }, submodules: [] };
  }

  /**
   * A restarted VM still has the image on its transfer disk and the changes on its root disk: mount them again. A full copy is
   * where it was. One that never came to its place must not keep a VM from starting: the next prepare puts it there.
   */
  remount(workspace: VmWorkspace): GuestErrand | undefined {
    if (workspace.mode === 'full_copy' || workspace.unplaced) return undefined;
    return {
      ships: false,
      prepare: async () => undefined,
      finish: (agent, signal) => mountWorkspace(agent, workspace, signal),
    };
  }
}

/** @throws {BangerError} `bad_request`: not a place for a copy */
export function placementOf(asked: {
  readonly guestPath?: string | undefined;
  readonly readOnly?: boolean | undefined;
  readonly mode?: WorkspaceMode | undefined;
}): Placement {
  const { guestPath = DEFAULT_GUEST_PATH, readOnly = false, mode = 'shallow_overlay' } = asked;
  assertGuestPath(guestPath);
  if (readOnly && mode === 'full_copy') {
    throw new BangerError(
      'bad_request',
      'a full copy lies among the files of the VM and cannot be read-only',
      {
        hint: 'leave out --readonly, or --mode full_copy',
      },
    );
  }
  return { guestPath, mode, readOnly };
}

export function reportOf(
  plan: WorkspacePlanData,
  { guestPath }: Pick<Placement, 'guestPath'>,
): WorkspaceReport {
  const { sourcePath, headCommit, branch, files, bytes, untrackedLeft } = plan;
  return { guestPath, sourcePath, headCommit, branch, files, bytes, untrackedLeft };
}

export function recordOf(
  plan: WorkspacePlanData,
  placement: Placement,
  wanted: ToolingPlan,
  shipped: ShippedCopy,
): VmWorkspace {
  const { sourcePath, headCommit, asked } = plan;
  return {
    sourcePath,
    headCommit,
    ...placement,
    ...asked,
    ...shipped,
    tools: workspaceTools(wanted),
    preparedAt: now(),
  };
}

/** Idempotent. */
export async function mountWorkspace(
  agent: Pick<AgentClient, 'mount'>,
  { guestPath, readOnly }: Pick<Placement, 'guestPath' | 'readOnly'>,
  signal: AbortSignal,
): Promise<void> {
  await agent.mount(
    { device: TRANSFER_DEVICE, type: 'squashfs', target: guestPath, readOnly, label: LABEL },
    signal,
  );
}
