/** Copies of host repositories in guests: planned before anything is created, shipped while the guest boots. */

import type { CheckedParamsOf, Progress } from '../../../api/contract.ts';
import type { WorkspacePlan, WorkspaceReport } from '../../../api/results/workspace.ts';
import { assertGuestPath, DEFAULT_GUEST_PATH } from '../../../core/guest-path.ts';
import type { VmWorkspace, WorkspaceMode } from '../../../core/model/workspace.ts';
import type { ToolingPlan } from '../../../core/toolingplan/model.ts';
import { planTools } from '../../../core/toolingplan/plan.ts';
import { workspaceTools } from '../../../core/toolingplan/workspace-tools.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { now } from '../../../host/clock.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { planWorkspace, type WorkspacePlanData } from '../../../workspace/plan.ts';
import { buildWorkspaceImage, type ShippedImage } from '../../../workspace/ship.ts';
import { hiddenEntries } from '../../../workspace/shipped-commit.ts';
import { writeShippedRecords } from '../../../workspace/shipped-record.ts';
import { readToolFiles } from '../../../workspace/tool-files.ts';
import type { VmFiles } from '../../vm-files.ts';
import type { GuestErrand } from '../guests/guest-errand.ts';

/** The transfer disk is the second one. */
const TRANSFER_DEVICE = '/dev/vdb';
const LABEL = 'workspace';
/** Where the agent keeps what the guest changes of a copy that lies on the transfer disk: docs/agent-protocol.md, MOUNT. */
const OVERLAY_UPPER = `/var/lib/banger/${LABEL}/upper`;
/** How what is sent into a copy goes there: one archive at a time. */
export const COPY_ARCHIVE = { upper: OVERLAY_UPPER, staging: '.git/banger-new', marksShipped: true } as const;

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
    return await planWorkspace({ ...source, runner: this.#runner, signal });
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

  /** Ships a plan into a machine that is booting. */
  ship(
    plan: WorkspacePlanData,
    placement: Placement,
    tools: ToolingPlan,
    onProgress: ReportProgress,
  ): Shipping {
    let image: ShippedImage | undefined;
    const errand: GuestErrand = {
      ships: true,
      prepare: async (files, signal) => {
        image = await this.writeImage(plan, files, onProgress, signal);
      },
      finish: (agent, signal) => mountWorkspace(agent, placement, signal),
    };
    return {
      errand,
      record: () => {
        if (image === undefined) throw new Error('the errand has not been done');
        return recordOf(plan, placement, tools, image);
      },
    };
  }

  /** Writes the plan's files to the VM's transfer disk, which nobody may have mounted. */
  async writeImage(
    plan: WorkspacePlanData,
    files: VmFiles,
    onProgress: ReportProgress,
    signal: AbortSignal,
  ): Promise<ShippedImage> {
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
    return image;
  }

  /** A restarted VM still has the image on its transfer disk and the changes on its root disk: mount them again. */
  remount(workspace: VmWorkspace): GuestErrand {
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
}): Placement {
  const guestPath = asked.guestPath ?? DEFAULT_GUEST_PATH;
  assertGuestPath(guestPath);
  return { guestPath, mode: 'shallow_overlay', readOnly: asked.readOnly ?? false };
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
  image: ShippedImage,
): VmWorkspace {
  const { sourcePath, headCommit, asked, branch } = plan;
  const { commit, tree } = image.shipped;
  return {
    sourcePath,
    headCommit,
    ...placement,
    ...asked,
    shipped: { commit, tree, branch, staged: image.staged },
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
