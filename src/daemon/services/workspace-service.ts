/** Copies of host repositories in guests: planned before anything is created, shipped while the guest boots. */

import type { CheckedParamsOf, Progress, WorkspacePlan, WorkspaceReport } from '../../api/contract.ts';
import type { ShippedState, VmWorkspace } from '../../core/model/workspace.ts';
import { now } from '../../host/clock.ts';
import type { BangerPaths } from '../../host/paths.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { planWorkspace, type WorkspacePlanData } from '../../workspace/plan.ts';
import { buildWorkspaceImage } from '../../workspace/ship.ts';
import type { GuestErrand } from './guest-errand.ts';

export const GUEST_REPO_PATH = '/root/repo';
/** The transfer disk is the second one. */
const TRANSFER_DEVICE = '/dev/vdb';
const LABEL = 'workspace';

/** A copy on its way. */
export interface Shipping {
  readonly errand: GuestErrand;
  /** For the row, once the errand is done. */
  record(): VmWorkspace;
}

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
    const plan = await this.plan(source, signal);
    return { ...this.report(plan), mode: 'shallow_overlay', paths: plan.displayPaths };
  }

  report(plan: WorkspacePlanData): WorkspaceReport {
    const { sourcePath, headCommit, branch, files, bytes, untrackedLeft } = plan;
    return { guestPath: GUEST_REPO_PATH, sourcePath, headCommit, branch, files, bytes, untrackedLeft };
  }

  /** Ships a plan into a machine that is booting. */
  ship(plan: WorkspacePlanData, onProgress: (progress: Progress) => void): Shipping {
    let shipped: ShippedState | undefined;
    const errand: GuestErrand = {
      ships: true,
      prepare: async (files, signal) => {
        const image = await buildWorkspaceImage({
          plan,
          imagePath: files.transferDisk,
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
        shipped = image.shipped;
      },
      finish: (agent, signal) => mountWorkspace(agent, GUEST_REPO_PATH, signal),
    };
    return { errand, record: () => recordOf(plan, shipped) };
  }

  /** A restarted VM still has the image on its transfer disk and the changes on its root disk: mount them again. */
  remount(workspace: VmWorkspace): GuestErrand {
    return {
      ships: false,
      prepare: async () => undefined,
      finish: (agent, signal) => mountWorkspace(agent, workspace.guestPath, signal),
    };
  }
}

function recordOf(plan: WorkspacePlanData, shipped: ShippedState | undefined): VmWorkspace {
  const { sourcePath, headCommit, asked } = plan;
  return {
    guestPath: GUEST_REPO_PATH,
    sourcePath,
    headCommit,
    mode: 'shallow_overlay',
    readOnly: false,
    ...asked,
    shipped: shipped ?? null,
    preparedAt: now(),
  };
}

async function mountWorkspace(
  agent: Parameters<GuestErrand['finish']>[0],
  target: string,
  signal: AbortSignal,
): Promise<void> {
  await agent.mount(
    { device: TRANSFER_DEVICE, type: 'squashfs', target, readOnly: false, label: LABEL },
    signal,
  );
}
