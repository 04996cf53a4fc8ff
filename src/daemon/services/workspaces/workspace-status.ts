/** `vm workspace status`: what was changed since a copy was made, on the host, in the guest, and in both places. */

import type { FileChange, WorkspaceFileStatus, WorkspaceStatus } from '../../../api/results/workspace.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmWorkspace } from '../../../core/model/workspace.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { type BytePath, displayPath } from '../../../workspace/byte-path.ts';
import { isUnsettled } from '../../../workspace/shipped-record.ts';
import { isSameEntry, type TreeChange } from '../../../workspace/tree-change.ts';
import type { OperationHandle } from '../../operations.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { DriftWatch } from './workspace-drift.ts';
import type { GuestChanges, WorkspaceExport } from './workspace-export.ts';
import { compareSubmodules } from './submodule-updates.ts';
import { hasSource } from './workspace-source.ts';
import { compareWithHost } from './workspace-update.ts';

export interface WorkspaceStatusDeps {
  readonly registry: VmRegistry;
  readonly exports: WorkspaceExport;
  readonly drift: DriftWatch;
  readonly runner: CommandRunner;
  readonly paths: BangerPaths;
}

/** More are not for reading. All are counted. */
const MAX_LISTED = 10_000;

export class WorkspaceStatusService {
  readonly #deps: WorkspaceStatusDeps;

  constructor(deps: WorkspaceStatusDeps) {
    this.#deps = deps;
  }

  /** @throws {BangerError} `not_found` (there is no copy), `guest_failed`, and what the repository says that is gone */
  async status(ref: string, operation: OperationHandle): Promise<WorkspaceStatus> {
    const { exports, drift } = this.#deps;
    operation.progress({ step: 'look', text: 'comparing both sides' });
    const { vm, workspace, there, beside } = await exports.guestChanges(
      ref,
      operation,
      (found, copied, signal) =>
        Promise.all([
          this.#here(found.id, copied, signal),
          drift.of(found, signal),
          isUnsettled(this.#deps.registry.files(found.id), copied),
        ]),
    );
    const [here, behind, cutOff] = beside;
    const { guestPath, sourcePath, headCommit, mode, readOnly, preparedAt } = workspace;
    const files = merged(here, there);
    return {
      vm: vm.name,
      ...{ guestPath, sourcePath, headCommit, mode, readOnly, preparedAt },
      drift: behind,
      knowsHere: here !== null,
      cutOff,
      commits: there.commits,
      files: files.slice(0, MAX_LISTED),
      total: files.length,
      nested: there.nested,
    };
  }

  /** Null: what was shipped is not known any more, or the repository is not. */
  async #here(
    vmId: string,
    workspace: VmWorkspace,
    signal: AbortSignal,
  ): Promise<readonly TreeChange[] | null> {
    if (!hasSource(workspace)) return null;
    const { registry, runner, paths } = this.#deps;
    const { shippedFile, shippedIndex } = registry.files(vmId);
    try {
      const deps = { runner, scratchDir: paths.scratchDir };
      const facts = { workspace, shippedFile, shippedIndex, signal };
      const [own, below] = await Promise.all([compareWithHost(deps, facts), compareSubmodules(deps, facts)]);
      return [...own, ...below];
    } catch (error) {
      if (error instanceof BangerError && ['invalid_state', 'not_found'].includes(error.code)) return null;
      throw error;
    }
  }
}

function merged(here: readonly TreeChange[] | null, { changes }: GuestChanges): WorkspaceFileStatus[] {
  const sides = new Map<BytePath, { here?: TreeChange; there?: TreeChange }>();
  for (const change of here ?? []) sides.set(change.path, { here: change });
  for (const change of changes) sides.set(change.path, { ...sides.get(change.path), there: change });
  return [...sides]
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([path, side]) => ({
      path: displayPath(path),
      here: kindOf(side.here),
      there: kindOf(side.there),
      same: side.here !== undefined && side.there !== undefined && isSameEntry(side.here.to, side.there.to),
    }));
}

function kindOf(change: TreeChange | undefined): FileChange | null {
  if (change === undefined) return null;
  return change.from === null ? 'added' : change.to === null ? 'deleted' : 'modified';
}
