/** What guests changed in their copies, brought back: as a patch, merged onto the host's files, or as a branch. */

import type { CheckedParamsOf } from '../../../api/contract.ts';
import type {
  SavedPatch,
  WorkspaceApplied,
  WorkspaceChange,
  WorkspaceExported,
  WorkspaceFetched,
} from '../../../api/results/workspace.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { ShippedState, VmWorkspace } from '../../../core/model/workspace.ts';
import type { BangerPaths } from '../../../host/paths.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { assertFree, writeWholeFile } from '../../../host/whole-file.ts';
import { applyGuestTree } from '../../../workspace/apply.ts';
import { type BytePath, displayPath } from '../../../workspace/byte-path.ts';
import { isUnsettled } from '../../../workspace/shipped-record.ts';
import { fetchGuestBranch, findGuestBranch } from '../../../workspace/fetch-branch.ts';
import type { GuestRepo } from '../../../workspace/guest-git-runner.ts';
import { countGuestCommits, pourPatch, resolveGuestCommit } from '../../../workspace/guest-patch.ts';
import { type GuestTree, withGuestTree } from '../../../workspace/guest-tree.ts';
import type { CountedChange } from '../../../workspace/tree-change.ts';
import type { ByteStreams } from '../../byte-streams.ts';
import type { OperationHandle } from '../../operations.ts';
import { guestPrograms } from '../guests/guest-programs.ts';
import type { Transfers } from '../guests/transfers.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';
import { type ChangedSubmodule, changedSubmodules } from './changed-submodules.ts';
import { sourceOf } from './workspace-source.ts';

/** Of changed paths in an answer: more are not for reading, and scripts have the patch. */
const MAX_LISTED = 10_000;
/** Of files between two reports of progress. */
const PROGRESS_STEP = 50;

export interface WorkspaceExportDeps {
  readonly sleep: VmSleep;
  readonly transfers: Transfers;
  readonly registry: VmRegistry;
  readonly streams: ByteStreams;
  readonly runner: CommandRunner;
  readonly paths: BangerPaths;
  /** Where git finds its helper for `banger::` addresses. */
  readonly binDir: string;
}

/** A VM's copy while nobody else reads or changes it as a whole. */
export interface OpenCopy {
  readonly vm: VmRecord;
  readonly workspace: VmWorkspace;
  readonly repo: GuestRepo;
  readonly signal: AbortSignal;
}

export interface GuestChanges {
  readonly changes: readonly CountedChange[];
  readonly commits: number;
  readonly nested: readonly string[];
}

export class WorkspaceExport {
  readonly #deps: WorkspaceExportDeps;

  constructor(deps: WorkspaceExportDeps) {
    this.#deps = deps;
  }

  /** @throws {BangerError} `not_found` (no such commit), `already_exists`, `guest_failed` (its repository), `no_space` … */
  async export(
    params: CheckedParamsOf<'workspace.export'>,
    operation: OperationHandle,
  ): Promise<WorkspaceExported> {
    const { output, stream, force, mode } = params;
    if (output !== undefined && stream !== undefined)
      throw new BangerError('bad_request', 'an export goes to a file or to a stream');
    if (params.base !== undefined && params.sincePrepare)
      throw new BangerError('bad_request', 'a patch has one base: a commit, or what was shipped');
    if (output !== undefined && !force) await assertFree(output);
    return await this.#open(params.ref, operation, async (copy) => {
      if (stream !== undefined) {
        return await this.#deps.streams.use(stream, copy.signal, (bytes) =>
          this.#export(copy, params, operation, (chunk) => bytes.write(chunk)),
        );
      }
      if (output === undefined) return await this.#export(copy, params, operation, null);
      const { scratchDir } = this.#deps.paths;
      return await writeWholeFile(output, { force, mode, scratchDir }, (file) =>
        this.#export(copy, params, operation, (chunk) => file.write(chunk)),
      );
    });
  }

  async #export(
    copy: OpenCopy,
    params: CheckedParamsOf<'workspace.export'>,
    operation: OperationHandle,
    write: ((bytes: Uint8Array) => Promise<void>) | null,
  ): Promise<WorkspaceExported> {
    const { vm, workspace, repo } = copy;
    await this.#assertSettled(copy);
    const base = await baseOf(copy, params);
    operation.progress({ step: 'look', text: `looking at the files of ${vm.name}` });
    return await this.#look(copy, async (tree) => {
      const [changes, commits] = await Promise.all([
        tree.changesSince(base, true),
        countGuestCommits(repo, base),
      ]);
      operation.progress({ step: 'export', text: `exporting ${changes.length} files`, unit: 'bytes' });
      const bytes = write === null ? 0 : await pourPatch(tree, base, write);
      const { shipped, headCommit } = workspace;
      return {
        vm: vm.name,
        path: params.output ?? null,
        bytes,
        base,
        commits,
        changes: listed(changes),
        ...totals(changes),
        includesShipped: shipped !== null && shipped.commit !== headCommit && base !== shipped.commit,
        nested: namesOf(tree, await changedSubmodules(copy)),
      };
    });
  }

  /** @throws {BangerError} as `applyGuestTree` */
  async apply(
    params: CheckedParamsOf<'workspace.apply'>,
    operation: OperationHandle,
  ): Promise<WorkspaceApplied> {
    return await this.#open(params.ref, operation, async (copy) => {
      const { vm, workspace } = copy;
      const shipped = shippedOf(vm, workspace);
      await this.#assertSettled(copy);
      operation.progress({ step: 'look', text: `looking at the files of ${vm.name}` });
      return await this.#look(copy, async (guest) => {
        const { headCommit, includeUntracked } = workspace;
        const { dir, applied, changes, conflicts } = await applyGuestTree({
          ...params,
          guest,
          base: { headCommit, tree: shipped.tree, includeUntracked },
          dir: params.dir ?? sourceOf(vm.name, workspace),
          scratchDir: this.#deps.paths.scratchDir,
          runner: this.#deps.runner,
          signal: copy.signal,
          onProgress: progressOf(operation),
        });
        return {
          vm: vm.name,
          dir,
          applied,
          changes: listed(changes),
          files: changes.length,
          conflicts: conflicts
            .slice(0, MAX_LISTED)
            .map(({ path, why }) => ({ path: displayPath(path), why })),
          nested: namesOf(guest, await changedSubmodules(copy)),
        };
      });
    });
  }

  /** @throws {BangerError} as `fetchGuestBranch` */
  async fetch(
    params: CheckedParamsOf<'workspace.fetch'>,
    operation: OperationHandle,
  ): Promise<WorkspaceFetched> {
    const { branch, force, umask } = params;
    return await this.#open(params.ref, operation, async (copy) => {
      const { vm, workspace, repo, signal } = copy;
      const dir = params.dir ?? sourceOf(vm.name, workspace);
      const guestBranch = await findGuestBranch(repo, branch);
      operation.progress({ step: 'fetch', text: `fetching ${guestBranch ?? 'HEAD'} of ${vm.name}` });
      const fetched = await fetchGuestBranch({
        address: `banger::${vm.id}:${workspace.guestPath}`,
        helperDir: this.#deps.binDir,
        source: guestBranch === null ? 'HEAD' : `refs/heads/${guestBranch}`,
        since: workspace.headCommit,
        ...{ dir, branch, force, umask, signal },
        scratchDir: this.#deps.paths.scratchDir,
        runner: this.#deps.runner,
      });
      const uncommitted = await this.#look(copy, (tree) => tree.changesSince('HEAD'));
      return { vm: vm.name, branch, guestBranch, ...fetched, uncommitted: uncommitted.length };
    });
  }

  /**
   * What the guest has changed, to a file that is on the disk afterwards; for who has the copy already. Null: it has changed nothing,
   * and nothing is written.
   */
  async save(
    copy: OpenCopy,
    file: { readonly path: string; readonly mode: number; readonly force: boolean },
  ): Promise<{ readonly patch: SavedPatch; readonly paths: ReadonlySet<BytePath> } | null> {
    const { headCommit, shipped } = copy.workspace;
    return await this.#look(copy, async (tree) => {
      const changes = await tree.changesSince(shipped?.commit ?? headCommit);
      const commits = await countGuestCommits(copy.repo, headCommit);
      if (changes.length === 0 && commits === 0) return null;
      const { scratchDir } = this.#deps.paths;
      const bytes = await writeWholeFile(file.path, { ...file, scratchDir }, (sink) =>
        pourPatch(tree, headCommit, (chunk) => sink.write(chunk)),
      );
      const paths = new Set(changes.map(({ path }) => path));
      return { patch: { path: file.path, bytes, files: paths.size, commits }, paths };
    });
  }

  /**
   * How the guest's files differ from what was shipped, and what `beside` finds out at the same time; for `workspace.status`.
   * @throws {BangerError} as `export`
   */
  async guestChanges<T>(
    ref: string,
    operation: OperationHandle,
    beside: (vm: VmRecord, workspace: VmWorkspace, signal: AbortSignal) => Promise<T>,
  ): Promise<{ vm: VmRecord; workspace: VmWorkspace; there: GuestChanges; beside: T }> {
    return await this.#open(ref, operation, async (copy) => {
      const { tree: base } = shippedOf(copy.vm, copy.workspace);
      const commits = countGuestCommits(copy.repo, copy.workspace.headCommit);
      commits.catch(() => undefined);
      const submodules = await changedSubmodules(copy);
      const there = this.#look(copy, async (tree) => ({
        changes: [...(await tree.changesSince(base)), ...submodules.flatMap(({ changes }) => changes)],
        commits: await commits,
        nested: namesOf(tree, submodules),
      }));
      const both = await Promise.all([there, beside(copy.vm, copy.workspace, copy.signal)]);
      return { vm: copy.vm, workspace: copy.workspace, there: both[0], beside: both[1] };
    });
  }

  /** What a shipping that was cut off has brought must not come back as the guest's. @throws {BangerError} `invalid_state` */
  async #assertSettled({ vm, workspace }: OpenCopy): Promise<void> {
    if (!(await isUnsettled(this.#deps.registry.files(vm.id), workspace))) return;
    throw new BangerError(
      'invalid_state',
      `bringing the copy in VM "${vm.name}" up to date was cut off, and what came from here cannot be told from its own changes`,
      { hint: `let that end first: banger vm workspace prepare ${vm.name}` },
    );
  }

  /** Stop and delete of the VM end what is done in it. */
  async #open<T>(ref: string, operation: OperationHandle, work: (copy: OpenCopy) => Promise<T>): Promise<T> {
    const { vm: found, live } = await this.#deps.sleep.running(ref, 'workspace', operation.signal);
    operation.about(found.name);
    return await this.#deps.transfers.runAlone(found.id, operation.signal, async (signal) => {
      // Whoever had the turn before may have written it anew.
      const vm = this.#deps.registry.row(found.id);
      const { workspace } = vm;
      if (workspace === null) {
        throw new BangerError('not_found', `VM "${vm.name}" has no copy of a repository`, {
          hint: 'banger vm run PATH makes a VM that has one',
        });
      }
      const programs = guestPrograms(await live.agent(signal));
      return await work({ vm, workspace, signal, repo: { path: workspace.guestPath, programs, signal } });
    });
  }

  async #look<T>({ workspace, repo }: OpenCopy, work: (tree: GuestTree) => Promise<T>): Promise<T> {
    const base = workspace.shipped?.commit ?? workspace.headCommit;
    return await withGuestTree({ ...repo, base, hasSubmodules: workspace.mode === 'full_copy' }, work);
  }
}

async function baseOf(
  { vm, workspace, repo }: OpenCopy,
  { base, sincePrepare }: CheckedParamsOf<'workspace.export'>,
): Promise<string> {
  if (sincePrepare) return shippedOf(vm, workspace).commit;
  return base === undefined ? workspace.headCommit : await resolveGuestCommit(repo, base);
}

function shippedOf(vm: VmRecord, { shipped }: VmWorkspace): ShippedState {
  if (shipped !== null) return shipped;
  throw new BangerError('unsupported', `what was shipped to VM "${vm.name}" is not known any more`, {
    hint: `an older banger made it; a patch against the commit it was made from: banger vm workspace export ${vm.name}`,
  });
}

function namesOf(tree: GuestTree, submodules: readonly ChangedSubmodule[]): string[] {
  const names = [...tree.nested.map(displayPath), ...submodules.map(({ path }) => path)];
  return [...new Set(names)].sort();
}

function listed(changes: readonly CountedChange[]): WorkspaceChange[] {
  return changes.slice(0, MAX_LISTED).map(({ path, kind, insertions, deletions }) => ({
    path: displayPath(path),
    kind,
    insertions,
    deletions,
  }));
}

function totals(
  changes: readonly CountedChange[],
): Pick<WorkspaceExported, 'files' | 'insertions' | 'deletions'> {
  const sum = (of: (change: CountedChange) => number | null): number =>
    changes.reduce((total, change) => total + (of(change) ?? 0), 0);
  return {
    files: changes.length,
    insertions: sum(({ insertions }) => insertions),
    deletions: sum(({ deletions }) => deletions),
  };
}

function progressOf({ progress }: OperationHandle): (text: string, done?: number, total?: number) => void {
  return (text, done, total) => {
    if (total !== undefined && done !== undefined && done % PROGRESS_STEP !== 0) return;
    progress({
      step: 'apply',
      text,
      ...(done !== undefined && { done }),
      ...(total !== undefined && { total }),
      ...(done !== undefined && total === undefined && { unit: 'bytes' as const }),
    });
  };
}
