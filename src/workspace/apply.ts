/**
 * Merges what a guest changed in its copy onto a working tree of the host: the base is what was shipped, ours the working tree as
 * it is now, uncommitted changes and all, theirs the guest's files. Index, HEAD, refs and objects of the host's repository are
 * not touched.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import {
  fileError,
  isAbandonedTemporary,
  listDir,
  makeTemporaryDir,
  removeTree,
  temporaryPath,
} from '../host/files.ts';
import { noteOutside } from '../host/outside.ts';
import type { CommandRunner } from '../host/runner.ts';
import { ancestorsOf, applyChanges } from './apply-changes.ts';
import { type BytePath, displayPath } from './byte-path.ts';
import { type HostGit, hostGit } from './git.ts';
import { assertSizes, fetchTrees } from './guest-objects.ts';
import type { GuestTree } from './guest-tree.ts';
import { GITLINK_MODE, type IndexEntry, readIndexEntries } from './index-entries.ts';
import { keepMarked } from './keep-marked.ts';
import { makeMergeRepo } from './merge-repo.ts';
import { type MergeConflict, mergeTrees } from './merge-trees.ts';
import { planWorkspace, type WorkingTreeSource, type WorkspacePlanData } from './plan.ts';
import { checkDirectory, findRepo } from './repo.ts';
import { workingTreeFacts } from './ship.ts';
import { commitWorkingTree, workingTreeIndexPath } from './shipped-commit.ts';
import { type StagedFiles, stageFiles } from './staged-files.ts';
import { type CountedChange, MAX_CHANGES_BYTES, parseGuestChanges } from './tree-change.ts';

export interface ApplyOptions {
  readonly guest: GuestTree;
  /** As the VM's row has them. */
  readonly base: { readonly headCommit: string; readonly tree: string; readonly includeUntracked: boolean };
  /** In the host's repository. */
  readonly dir: string;
  readonly scratchDir: string;
  readonly umask: number;
  readonly conflictMarkers: boolean;
  readonly dryRun: boolean;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onProgress: (text: string, done?: number, total?: number) => void;
}

export interface Applied {
  /** Top of the working tree. */
  readonly dir: string;
  readonly applied: boolean;
  /** Between the working tree as it was and the merged one. */
  readonly changes: readonly CountedChange[];
  readonly conflicts: readonly MergeConflict[];
}

/** Of a directory in the top of the working tree, in which files wait for their rename. */
const STAGING = 'banger';

/**
 * @throws {BangerError} `bad_request` (no repository, another object format), `dependency_missing`, `invalid_state` (a file changed
 *   meanwhile or is in the way), `unsupported` (a submodule changed), `verify_failed`, `limit_exceeded`, `no_space`, `cancelled` …
 */
export async function applyGuestTree(options: ApplyOptions): Promise<Applied> {
  const { runner, signal, scratchDir } = options;
  await checkDirectory(options.dir);
  const { topLevel, objectFormat } = await findRepo(hostGit(runner, options.dir, signal), options.dir);
  if ((objectFormat === 'sha1') !== (options.base.tree.length === 40)) {
    throw new BangerError(
      'bad_request',
      `the repository at ${topLevel} names objects by ${objectFormat}, the VM's by another hash`,
      { hint: 'give a clone of the repository that was copied' },
    );
  }
  await sweepStaging(topLevel);
  const plan = await planWorkspace({
    path: topLevel,
    includeUntracked: true,
    submodules: 'leave',
    runner,
    signal,
  });
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const scratch = await makeTemporaryDir(join(scratchDir, 'apply')).catch((error: unknown) => {
    throw fileError(`cannot use ${scratchDir}`, error);
  });
  try {
    return await apply(options, plan, scratch);
  } catch (error) {
    const isOfFiles = error instanceof Error && 'syscall' in error;
    throw isOfFiles ? fileError(`cannot write below ${scratchDir}`, error) : error;
  } finally {
    await removeTree(scratch, { below: scratchDir });
  }
}

async function apply(options: ApplyOptions, plan: WorkspacePlanData, scratch: string): Promise<Applied> {
  const { guest, base, signal, onProgress } = options;
  const source = plan.source as WorkingTreeSource;
  const dir = plan.sourcePath;
  const git = hostGit(options.runner, dir, signal);
  const repo = await makeMergeRepo(git, plan, scratch);
  const theirChanges = await guest.changesSince(base.tree);
  if (theirChanges.length === 0) return { dir, applied: !options.dryRun, changes: [], conflicts: [] };
  const theirs = await guest.write();
  onProgress('fetching the changes');
  await fetchTrees({
    guest,
    repo,
    trees: [theirs, base.tree],
    knownTree: await treeHere(repo.git, base.headCommit),
    onBytes: (bytes) => onProgress('fetching the changes', bytes),
  });
  await assertSizes(
    repo,
    theirChanges.map((change) => change.to),
  );
  onProgress('merging');
  const untracked = base.includeUntracked ? source.untracked : concerned(source.untracked, theirChanges);
  const ours = await commitWorkingTree(git, workingTreeFacts(plan, { ...source, untracked }), scratch);
  const entries = await readIndexEntries(git, { GIT_INDEX_FILE: workingTreeIndexPath(scratch) });
  const merged = await mergeTrees(repo, { baseTree: base.tree, oursTree: ours.tree, theirsTree: theirs });
  const isMarked = options.conflictMarkers && merged.conflicts.length > 0;
  const { tree, conflicts } = isMarked ? await keepMarked(repo, ours.tree, merged) : merged;
  const changes = await changesBetween(repo.git, ours.tree, tree);
  assertNoSubmodules(changes);
  const isWanted = !options.dryRun && (conflicts.length === 0 || options.conflictMarkers);
  if (isWanted && changes.length > 0) await write({ options, repo, dir, entries, changes, tree, scratch });
  return { dir, applied: isWanted, changes, conflicts };
}

interface WriteJob extends StagedFiles {
  readonly options: ApplyOptions;
  readonly entries: readonly IndexEntry[];
}

/** All contents are on the disk, in one directory, before the first file changes. */
async function write(job: WriteJob): Promise<void> {
  const { options, dir, entries, changes } = job;
  const staging = temporaryPath(join(dir, STAGING));
  await using _note = await noteOutside(options.scratchDir, staging);
  try {
    const stagedPath = await stageFiles(job, staging);
    await applyChanges({
      rootPath: dir,
      changes,
      stagedPath,
      entries,
      umask: options.umask,
      signal: options.signal,
      onChange: (done) => options.onProgress('writing files', done, changes.length),
    });
  } finally {
    await removeTree(staging, { below: dir });
  }
}

/** The tree of a commit, if this repository has it. */
async function treeHere(git: HostGit, commit: string): Promise<string | null> {
  const found = await git.run(['rev-parse', '--quiet', '--verify', `${commit}^{tree}`], {
    okStatuses: [0, 1, 128],
  });
  return found.status === 0 ? found.stdout.toString('latin1').trim() : null;
}

/** Untracked files that the guest's changes meet: the same path, one above or one below. */
function concerned(untracked: readonly BytePath[], changes: readonly CountedChange[]): BytePath[] {
  const paths = new Set(changes.map(({ path }) => path));
  const above = new Set(changes.flatMap(({ path }) => ancestorsOf(path)));
  return untracked.filter(
    (path) => paths.has(path) || above.has(path) || ancestorsOf(path).some((parent) => paths.has(parent)),
  );
}

async function changesBetween(git: HostGit, from: string, to: string): Promise<CountedChange[]> {
  const flags = ['-r', '-z', '--raw', '--numstat', '--no-abbrev', '--no-renames', '--no-textconv'];
  const listed = await git.run(['diff-tree', ...flags, '--no-ext-diff', from, to], {
    maxOutputBytes: MAX_CHANGES_BYTES,
  });
  return parseGuestChanges(listed.stdout);
}

function assertNoSubmodules(changes: readonly CountedChange[]): void {
  const link = changes.find(({ from, to }) => from?.mode === GITLINK_MODE || to?.mode === GITLINK_MODE);
  if (link === undefined) return;
  throw new BangerError('unsupported', `${displayPath(link.path)} is a submodule, which cannot be merged`, {
    hint: 'git rm --cached it in the VM, and take it over by hand',
  });
}

/** What a killed process left. */
async function sweepStaging(dir: string): Promise<void> {
  for (const name of await listDir(dir)) {
    if (name.startsWith(`.${STAGING}.tmp-`) && isAbandonedTemporary(name))
      await removeTree(join(dir, name), { below: dir });
  }
}
