/** A full copy brought up to date: the repository itself, and its submodules each as a repository of its own. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BangerError } from '../../../core/errors.ts';
import type { SourcedWorkspace } from '../../../core/model/workspace.ts';
import { type ArchiveRecord, isArchivePath } from '../../../guest/archive/records.ts';
import { ArchiveConflicts } from '../../../guest/archive/transfer.ts';
import { now } from '../../../host/clock.ts';
import { copyFileIfThere } from '../../../host/files.ts';
import { bytePath, bytesOf } from '../../../workspace/byte-path.ts';
import { hostGit } from '../../../workspace/git.ts';
import { findRepo } from '../../../workspace/repo.ts';
import type { ShippedRecord } from '../../../workspace/shipped-record.ts';
import { type ClonedSubmodule, clonedSubmodules } from '../../../workspace/submodules.ts';
import type { TreeChange } from '../../../workspace/tree-change.ts';
import { shippedFilesIn } from '../../shipped-files.ts';
import { type UpdateDeps, withScratch } from './update-scratch.ts';
import type { UpdateJob, UpdateOutcome } from './update-job.ts';
import { compareWithHost, updateWorkspace } from './workspace-update.ts';

export interface CopyJob extends Omit<UpdateJob, 'onShipped' | 'gitDir'> {
  /** The row as it is from now on: called whenever the guest has all of one repository. */
  readonly onRow: (workspace: SourcedWorkspace) => Promise<void>;
}

type UpdateAgent = UpdateJob['agent'];
/** One repository of the copy, without what is to be done about its end. */
type RepoJob = Omit<UpdateJob, 'onShipped'> & { readonly submodule: ClonedSubmodule | undefined };

/**
 * Nothing is written unless all of the repositories can be: that is tried first. A dry run is refused for what would be.
 * @throws {BangerError} as `updateWorkspace`; `bad_request`: a submodule that the copy has not
 */
export async function updateCopy(deps: UpdateDeps, job: CopyJob): Promise<UpdateOutcome> {
  const jobs = await repoJobs(deps, job);
  const checked = jobs.filter(({ force }) => !force);
  if (checked.length > 0 && (jobs.length > 1 || job.dryRun)) await rehearse(deps, checked);
  let row = job.workspace;
  const changes: TreeChange[] = [];
  let top: UpdateOutcome | undefined;
  let movesHead = false;
  for (const each of jobs) {
    const onShipped = async (shipped: ShippedRecord): Promise<void> => {
      row = rowAfter(row, job, each.submodule, shipped);
      await job.onRow(row);
    };
    const outcome = await named(each, () => updateWorkspace(deps, { ...each, onShipped }));
    top ??= outcome;
    movesHead ||= outcome.movesHead;
    changes.push(...outcome.changes.map((change) => ({ ...change, path: pathIn(each, change.path) })));
  }
  return { headCommit: top?.headCommit ?? row.headCommit, changes, movesHead };
}

export function rowAfter(
  row: SourcedWorkspace,
  { asked }: Pick<CopyJob, 'asked'>,
  submodule: ClonedSubmodule | undefined,
  { commit, tree, branch, staged, headCommit }: ShippedRecord,
): SourcedWorkspace {
  const is = { headCommit, shipped: { commit, tree, branch, staged } };
  if (submodule === undefined) {
    // The copy's have gone with them.
    const left = row.submodules.filter(({ path }) => existsSync(join(row.sourcePath, path)));
    return { ...row, ...asked, ...is, submodules: left, preparedAt: now() };
  }
  const submodules = row.submodules.map((one) => (one.path === submodule.path ? { ...one, ...is } : one));
  return { ...row, submodules };
}

/** What was changed in the submodules of the repository since the copy was made; nothing is asked of the guest. */
export async function compareSubmodules(
  deps: UpdateDeps,
  facts: Pick<UpdateJob, 'workspace' | 'shippedFile' | 'shippedIndex' | 'signal'>,
): Promise<readonly TreeChange[]> {
  const { workspace, signal } = facts;
  if (workspace.submodules.length === 0) return [];
  const known = new Set(workspace.submodules.map(({ path }) => path));
  const changes: TreeChange[] = [];
  for (const submodule of await clonedHere(deps, workspace, signal)) {
    if (!known.has(submodule.path)) continue;
    const part = partOf(facts, submodule);
    for (const change of await compareWithHost(deps, { ...part, signal }))
      changes.push({ ...change, path: `${bytePath(submodule.path)}/${change.path}` });
  }
  return changes;
}

/**
 * Before what the guest has changed is saved, to be overwritten: what was changed in submodules is not in that.
 * @throws {BangerError} as `updateCopy`
 */
export async function assertSubmodulesKept(deps: UpdateDeps, job: CopyJob): Promise<void> {
  if (job.workspace.submodules.length === 0) return;
  const [, ...submodules] = await repoJobs(deps, job);
  await rehearse(deps, submodules);
}

/** The top's is the first: what is wrong with it is said before a submodule is written. */
async function repoJobs(deps: UpdateDeps, job: CopyJob): Promise<RepoJob[]> {
  const { workspace, asked, signal } = job;
  const top = { ...job, submodule: undefined };
  // The files of a commit come without submodules.
  if (workspace.mode !== 'full_copy' || asked.from !== null) return [top];
  const here = await clonedHere(deps, workspace, signal);
  const known = new Map(workspace.submodules.map((one) => [one.path, one.gitDir]));
  const other = here.find(({ path, gitDir }) => known.get(path) !== gitDir);
  if (other !== undefined) {
    throw new BangerError('bad_request', `${other.path} is a submodule that the copy has not`, {
      hint: `clone it inside the VM, or make another VM: banger vm run ${workspace.sourcePath} --mode full_copy`,
    });
  }
  const below = here.map((submodule): RepoJob => {
    const agent = agentIn(job.agent, workspace.guestPath, submodule);
    const gitDir = `${workspace.guestPath}/.git/${submodule.gitDir}`;
    const own = { branch: null, from: null, includeUntracked: asked.includeUntracked };
    // What was saved is what is in the top's files.
    const force = job.force && job.saved === undefined;
    return { ...job, ...partOf(job, submodule), force, agent, gitDir, asked: own, submodule };
  });
  return [top, ...below];
}

async function clonedHere(
  { runner }: UpdateDeps,
  { sourcePath }: SourcedWorkspace,
  signal: AbortSignal,
): Promise<readonly ClonedSubmodule[]> {
  const top = await findRepo(hostGit(runner, sourcePath, signal), sourcePath);
  return await clonedSubmodules(top, (dir) => hostGit(runner, dir, signal));
}

/** The submodule, as if it were a workspace. */
function partOf(
  { workspace, shippedFile }: Pick<UpdateJob, 'workspace' | 'shippedFile'>,
  { path }: ClonedSubmodule,
): Pick<UpdateJob, 'workspace' | 'shippedFile' | 'shippedIndex' | 'sentFile'> {
  const own = workspace.submodules.find((one) => one.path === path);
  return {
    workspace: {
      ...workspace,
      sourcePath: join(workspace.sourcePath, path),
      guestPath: `${workspace.guestPath}/${path}`,
      ...(own !== undefined && { headCommit: own.headCommit, shipped: own.shipped }),
      ...{ branch: null, from: null, submodules: [] },
    },
    ...shippedFilesIn(dirname(shippedFile), path),
  };
}

/** Only the checks are sent, and what is known of the shippings stays as it is. */
async function rehearse(deps: UpdateDeps, jobs: readonly RepoJob[]): Promise<void> {
  await withScratch(deps, async (scratch) => {
    for (const [at, job] of jobs.entries()) {
      const shippedFile = join(scratch, `${at}.json`);
      const shippedIndex = join(scratch, `${at}.index`);
      const sentFile = join(scratch, `${at}.sent`);
      await copyFileIfThere(job.shippedFile, shippedFile);
      await copyFileIfThere(job.shippedIndex, shippedIndex);
      await copyFileIfThere(job.sentFile, sentFile);
      const agent = checking(job.agent);
      const own = { shippedFile, shippedIndex, sentFile, dryRun: false, isTrial: true };
      const trial = { ...job, ...own, agent, onProgress: () => undefined };
      await named(job, () => updateWorkspace(deps, { ...trial, onShipped: async () => undefined }));
    }
  });
}

/** Errors name files from the top of their own repository. */
async function named<T>({ submodule, vmName, workspace }: RepoJob, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (submodule === undefined || !(error instanceof BangerError)) throw error;
    const { path } = submodule;
    const ways = `banger vm workspace status ${vmName} shows both sides; to keep the VM's, commit it there, then here: git -C ${workspace.sourcePath} fetch banger::${vmName}:${workspace.guestPath} HEAD; to overwrite it: banger vm workspace prepare ${vmName} --force`;
    const hint = error.code === 'invalid_state' ? ways : error.hint;
    throw new BangerError(error.code, `in the submodule ${path}: ${error.message}`, {
      ...(hint !== undefined && { hint }),
      cause: error,
    });
  }
}

function pathIn({ submodule }: RepoJob, path: string): string {
  return submodule === undefined ? path : `${bytePath(submodule.path)}/${path}`;
}

function checking(agent: UpdateAgent): UpdateAgent {
  return {
    exec: (request) => agent.exec(request),
    sync: async () => undefined,
    unpack: (request, records, signal) => agent.unpack(request, onlyChecks(records), signal),
  };
}

async function* onlyChecks(
  records: AsyncIterable<ArchiveRecord> | Iterable<ArchiveRecord>,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  for await (const record of records) {
    if (record.kind !== 'check' && record.kind !== 'checkContent') return;
    yield record;
  }
}

/** Writes where the submodule's files and its git directory are, seen from the top. */
function agentIn(agent: UpdateAgent, guestPath: string, submodule: ClonedSubmodule): UpdateAgent {
  const own = bytesOf(bytePath(`${submodule.path}/`));
  const git = bytesOf(bytePath(`.git/${submodule.gitDir}/`));
  const toTop = <T extends ArchiveRecord>(record: T): T => {
    if (!('path' in record)) return record;
    const isGit = record.path.subarray(0, GIT_PREFIX.length).equals(GIT_PREFIX);
    const path = Buffer.concat(isGit ? [git, record.path.subarray(GIT_PREFIX.length)] : [own, record.path]);
    if (!isArchivePath(path)) throw new BangerError('bad_request', 'a path in a submodule is too long');
    return { ...record, path };
  };
  const fromTop = <T extends { readonly path: Buffer }>(record: T): T => {
    const isGit = record.path.subarray(0, git.length).equals(git);
    const path = isGit
      ? Buffer.concat([GIT_PREFIX, record.path.subarray(git.length)])
      : record.path.subarray(own.length);
    return { ...record, path };
  };
  return {
    exec: (request) => agent.exec(request),
    sync: (signal) => agent.sync(signal),
    unpack: async (request, records, signal) => {
      try {
        await agent.unpack({ ...request, base: guestPath }, mapped(records, toTop), signal);
      } catch (error) {
        throw error instanceof ArchiveConflicts ? new ArchiveConflicts(error.conflicts.map(fromTop)) : error;
      }
    },
  };
}

const GIT_PREFIX = Buffer.from('.git/');

async function* mapped(
  records: AsyncIterable<ArchiveRecord> | Iterable<ArchiveRecord>,
  map: (record: ArchiveRecord) => ArchiveRecord,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  for await (const record of records) yield map(record);
}
