/** `vm workspace prepare`: a copy of a repository in a VM that runs, made or brought up to date. */

import { rm } from 'node:fs/promises';
import type { WorkspacePrepared } from '../../../api/results/workspace.ts';
import { BangerError } from '../../../core/errors.ts';
import type { SourcedWorkspace, VmWorkspace, WorkspaceTools } from '../../../core/model/workspace.ts';
import { toolsAfter } from '../../../core/toolingplan/workspace-tools.ts';
import { run } from '../../../guest/run.ts';
import { now } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import { assertFree } from '../../../host/whole-file.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import type { Store } from '../../../store/store.ts';
import { type BytePath, displayPath } from '../../../workspace/byte-path.ts';
import { hostGit } from '../../../workspace/git.ts';
import type { KnownRepos } from '../../../workspace/known-repos.ts';
import { checkDirectory, findRepo } from '../../../workspace/repo.ts';
import type { OperationHandle } from '../../operations.ts';
import type { Rest, Transfers } from '../guests/transfers.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';
import { guestPrograms } from '../guests/guest-programs.ts';
import { otherCopy } from './other-copy.ts';
import {
  bringIntoPlace,
  makeFirstCopy,
  MAX_LISTED_PATHS,
  type PrepareJob,
  type PrepareOutcome,
  placeCopy,
} from './first-copy.ts';
import type { WorkspaceExport } from './workspace-export.ts';
import { assertSubmodulesKept, type CopyJob, updateCopy } from './submodule-updates.ts';
import { withSource } from './workspace-source.ts';
import { READ_ONLY_BASE, type WorkspaceService } from './workspace-service.ts';
import { type SentUpdate, sendTouched, settleSent } from './quick-update.ts';
import type { UpdateOutcome } from './update-job.ts';

export interface WorkspacePrepareDeps {
  readonly workspaces: WorkspaceService;
  readonly exports: Pick<WorkspaceExport, 'save'>;
  readonly registry: VmRegistry;
  readonly sleep: VmSleep;
  readonly store: Store;
  readonly transfers: Transfers;
  readonly paths: BangerPaths;
  readonly runner: CommandRunner;
  readonly repos: KnownRepos;
  readonly log: Log;
}

interface Job extends PrepareJob {
  readonly later: (rest: Rest) => void;
}

const AGENT_TIMEOUT_MS = 10_000;
const LOOK_TIMEOUT_MS = 10_000;

export class WorkspacePrepare {
  readonly #deps: WorkspacePrepareDeps;

  constructor(deps: WorkspacePrepareDeps) {
    this.#deps = deps;
  }

  /**
   * Holds no lock of the VM's: stopping and deleting it end this.
   * @throws {BangerError} what planning and shipping throw; `invalid_state` (the guest changed what would be overwritten),
   *   `already_exists` (the VM has a copy of something else), `cancelled`
   */
  async prepare(params: PrepareJob['params'], operation: OperationHandle): Promise<WorkspacePrepared> {
    const begun = performance.now();
    const { sleep, transfers, registry } = this.#deps;
    const { vm } = await sleep.running(params.ref, 'workspace', operation.signal);
    operation.about(vm.name);
    return await transfers.runAlone(vm.id, operation.signal, async (signal, later) => {
      const row = registry.row(vm.id);
      const agent = await registry.liveOf(row, 'workspace').agent(signal, AGENT_TIMEOUT_MS);
      const job = { vm: row, agent, params, operation: { ...operation, signal }, later };
      const copy = row.workspace;
      const outcome = copy === null ? await this.#create(job) : await this.#update(job, copy);
      return { ...outcome, vm: vm.name, elapsedMs: performance.now() - begun };
    });
  }

  async #create(job: Job): Promise<PrepareOutcome> {
    return await makeFirstCopy({ ...this.#deps, record: this.#recorder(job) }, job);
  }

  #recorder({ vm }: Job) {
    return (workspace: VmWorkspace | null): Promise<void> => this.#record(vm.id, workspace);
  }

  /** Of a known repository, and in its place. A dry run leaves it where it is. */
  async #readyCopy(job: Job, copy: VmWorkspace): Promise<SourcedWorkspace> {
    const workspace = await this.#assertSame(job, copy);
    if (job.params.dryRun) return workspace;
    const record = this.#recorder(job);
    if (workspace !== copy) await record(workspace);
    return workspace.unplaced ? await placeCopy(job, workspace, record) : workspace;
  }

  async #update(job: Job, copy: VmWorkspace): Promise<PrepareOutcome> {
    const { vm, agent, params, operation } = job;
    const { registry, runner, repos } = this.#deps;
    const workspace = await this.#readyCopy(job, copy);
    if (workspace.readOnly) await assertWritable(job);
    const asked = {
      branch: params.branch ?? workspace.branch,
      from: params.from ?? workspace.from,
      includeUntracked: params.includeUntracked ?? workspace.includeUntracked,
    };
    const files = registry.files(vm.id);
    const update: CopyJob = {
      ...{ vmName: vm.name, workspace, asked, agent },
      shippedFile: files.shippedFile,
      shippedIndex: files.shippedIndex,
      sentFile: files.sentFile,
      force: params.force,
      dryRun: params.dryRun,
      signal: operation.signal,
      mountAgain: () => bringIntoPlace(agent, workspace, operation.signal),
      onProgress: (done, total) =>
        operation.progress({ step: 'workspace', text: 'shipping what changed', done, total, unit: 'items' }),
      // Tools may have been installed meanwhile.
      onRow: async (row) => await this.#record(vm.id, { ...row, tools: this.#toolsOf(vm.id) }),
    };
    operation.progress({ step: 'workspace', text: `comparing ${workspace.sourcePath}` });
    if (params.savePatch !== undefined) return await this.#updateSaved(job, update, params.savePatch);
    const sent = update.force || update.dryRun ? undefined : await sendTouched({ runner, repos }, update);
    if (sent === undefined) return await this.#updateAll(job, update, null);
    job.later((signal) => this.#settle({ ...update, signal }, sent));
    const { changes } = sent.look;
    const outcome = { headCommit: workspace.headCommit, changes, movesHead: false };
    return { ...updatedOutcome(workspace, outcome), patch: null, tools: null };
  }

  /** Nothing is overwritten before it is in the patch. Without changes in the guest there is nothing that could be. */
  async #updateSaved(job: Job, update: CopyJob, path: string): Promise<PrepareOutcome> {
    const { vm, agent, params, operation } = job;
    const { patchMode: mode, force, dryRun } = params;
    const { runner, paths, exports } = this.#deps;
    if (!force) await assertFree(path);
    const { workspace, signal } = update;
    await assertSubmodulesKept({ runner, scratchDir: paths.scratchDir }, { ...update, force: false });
    // What the patch would hold is not known yet: it counts as all.
    if (dryRun) return await this.#updateAll(job, { ...update, force: true }, null);
    operation.progress({ step: 'workspace', text: `saving what was changed in ${vm.name}` });
    const repo = { path: workspace.guestPath, programs: guestPrograms(agent), signal };
    const saved = await exports.save({ vm, workspace, repo, signal }, { path, mode, force });
    // Without changes nothing is overwritten but where HEAD is, or what is not known any more.
    const own = { ...update, force: true, saved: saved?.paths ?? new Set<BytePath>() };
    return await this.#updateAll(job, own, saved?.patch ?? null);
  }

  async #updateAll({ vm }: Job, update: CopyJob, patch: PrepareOutcome['patch']): Promise<PrepareOutcome> {
    const { workspaces, runner, paths } = this.#deps;
    const { workspace, asked, signal } = update;
    const wanted = workspaces.toolsNow({ ...workspace, ...asked }, signal);
    wanted.catch(() => undefined);
    let hasNewTools = false;
    const onRow = async (row: VmWorkspace): Promise<void> => {
      const { tools, isNew } = toolsAfter(this.#toolsOf(vm.id), await wanted);
      hasNewTools ||= isNew;
      await this.#record(vm.id, { ...row, tools });
    };
    const outcome = await updateCopy({ runner, scratchDir: paths.scratchDir }, { ...update, onRow });
    return { ...updatedOutcome(workspace, outcome), patch, tools: hasNewTools ? await wanted : null };
  }

  #toolsOf(vmId: string): WorkspaceTools | null {
    return this.#deps.registry.row(vmId).workspace?.tools ?? null;
  }

  /** What goes wrong here costs the next shipping some time. */
  async #settle(update: CopyJob, sent: SentUpdate): Promise<void> {
    const { runner, paths, log } = this.#deps;
    try {
      if (await settleSent({ runner, scratchDir: paths.scratchDir }, update, sent)) return;
    } catch (error) {
      const level = update.signal.aborted ? 'debug' : 'warn';
      log[level]({ vm: update.vmName, err: error }, 'what was shipped is not written down');
    }
    // The next one looks at everything, and says what is wrong.
    await rm(update.shippedIndex, { force: true }).catch(() => undefined);
  }

  /** The row's own column, and what stands beside the disks for when the database is lost. */
  async #record(vmId: string, workspace: VmWorkspace | null): Promise<void> {
    const { store, registry } = this.#deps;
    if (!store.setVmWorkspace(vmId, workspace, now()))
      throw new BangerError('not_found', 'the VM was deleted');
    await registry.keepRecord(vmId);
  }

  /**
   * @returns the copy with the repository it is of
   * @throws {BangerError} `already_exists`: another copy is asked for than the one that is there; as `withSource`
   */
  async #assertSame({ vm, params, operation }: Job, workspace: VmWorkspace): Promise<SourcedWorkspace> {
    const { path, guestPath, readOnly, mode } = params;
    let sourcePath = path;
    if (path !== undefined && path !== workspace.sourcePath) {
      await checkDirectory(path);
      sourcePath = (await findRepo(hostGit(this.#deps.runner, path, operation.signal), path)).topLevel;
    }
    const refusal = otherCopy(vm.name, workspace, { sourcePath, guestPath, readOnly, mode });
    if (refusal !== undefined) throw refusal;
    return await withSource(this.#deps.runner, vm.name, workspace, sourcePath, operation.signal);
  }
}

function updatedOutcome(
  workspace: SourcedWorkspace,
  { headCommit, changes, movesHead }: UpdateOutcome,
): Omit<PrepareOutcome, 'patch' | 'tools'> {
  const deleted = changes.filter(({ to }) => to === null).length;
  return {
    guestPath: workspace.guestPath,
    sourcePath: workspace.sourcePath,
    outcome: changes.length === 0 && !movesHead ? 'unchanged' : 'updated',
    headCommit,
    previousHead: workspace.headCommit,
    files: changes.length - deleted,
    deleted,
    paths: changes.slice(0, MAX_LISTED_PATHS).map(({ path }) => displayPath(path)),
    untrackedLeft: null,
  };
}

/** Agents of earlier versions mount a read-only copy without a place to write to. @throws {BangerError} `invalid_state` */
async function assertWritable({ vm, agent, operation }: Job): Promise<void> {
  const found = await run(
    agent,
    { argv: ['test', '-d', READ_ONLY_BASE], cwd: '/' },
    { signal: operation.signal, timeoutMs: LOOK_TIMEOUT_MS, maxOutputBytes: 64 * 1024 },
  );
  if (found.status === 0) return;
  throw new BangerError(
    'invalid_state',
    `the read-only copy in VM "${vm.name}" was mounted by an earlier banger, and cannot be brought up to date`,
    { hint: `restart the VM first: banger vm restart ${vm.name}` },
  );
}
