/** Decides what of a host repository goes into a guest, without creating or changing anything. */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import { type BytePath, displayPath, isSafePath } from './byte-path.ts';
import { type CommitFile, listCommitFiles } from './commit-files.ts';
import { type HostGit, hostGit } from './git.ts';
import type { GitSettings } from './guest-git-config.ts';
import { GITLINK_MODE, type IndexEntry, readIndexEntries } from './index-entries.ts';
import type { ObjectFormat, RepoFacts } from './repo.ts';
import { repoState, resolveCommit } from './repo-state.ts';
import { indexStampOf } from './shipped-record.ts';
import {
  assertFew,
  assertOwn,
  declaresSubmodules,
  findSubmodules,
  hasSubmodules,
  type Submodule,
} from './submodules.ts';
import { surveyFiles } from './survey.ts';

/** More is most likely a mistake (a data set, a home directory under git). */
export const MAX_FILES = 500_000;
export const MAX_BYTES = 48 * 1024 ** 3;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;

export interface PlanOptions {
  /** A directory in the repository, absolute. Below the top it means the whole repository, as for git. */
  readonly path: string;
  /** The guest's HEAD is a new branch of this name. */
  readonly branch?: string | undefined;
  /** Where that branch starts; needs `branch`. Default HEAD. */
  readonly from?: string | undefined;
  /** Also files that git does not track and does not ignore. */
  readonly includeUntracked: boolean;
  /** What becomes of them: default `refuse`. `leave` plans the rest. */
  readonly submodules?: 'refuse' | 'copy' | 'leave' | undefined;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** The working tree's files as they are, with the index that goes with them. */
export interface WorkingTreeSource {
  readonly kind: 'working-tree';
  readonly entries: readonly IndexEntry[];
  readonly untracked: readonly BytePath[];
  /** Tracked, and not there as files or links: deleted, or something else now. */
  readonly gone: readonly BytePath[];
  /** When the index was written, seconds: a file changed in that second or later may have changed again unseen. */
  readonly indexSeconds: number;
  /** See `indexStampOf`. */
  readonly indexStamp: string;
}

/** The files of `headCommit`; what the working tree holds does not matter. */
export interface CommitSource {
  readonly kind: 'commit';
}

export interface WorkspacePlanData {
  /** Top of the repository's working tree on the host. */
  readonly sourcePath: string;
  /** The guest's HEAD, 40 or 64 hex digits. */
  readonly headCommit: string;
  /** The guest's branch; null: a detached HEAD. */
  readonly branch: string | null;
  readonly files: number;
  readonly bytes: number;
  /** Untracked, not ignored, and left behind. Like the other numbers, with those of the submodules. */
  readonly untrackedLeft: number;
  /** Those that are copied. */
  readonly submodules: readonly SubmodulePlan[];
  /** Directories without anything in them: submodules that were not cloned. */
  readonly emptyDirectories: readonly BytePath[];
  /** What is shipped, for people: see `displayPath`. */
  readonly displayPaths: readonly string[];
  readonly source: WorkingTreeSource | CommitSource;
  /** What was asked for, to plan it again likewise. */
  readonly asked: {
    readonly branch: string | null;
    readonly from: string | null;
    readonly includeUntracked: boolean;
  };
  readonly objectFormat: ObjectFormat;
  readonly indexPath: string;
  readonly shallowPath: string;
  readonly objectsPath: string;
  readonly settings: GitSettings;
}

export interface SubmodulePlan extends Submodule {
  readonly plan: WorkspacePlanData;
}

/**
 * What is shipped:
 * - without `from`, or with one that is HEAD's own commit: the working tree as it is, tracked files only (deleted ones
 *   left out) unless `includeUntracked`, on the current branch or on the new one;
 * - with another `from`: the files of that commit. Changes in the working tree stay behind.
 *
 * Ignored files are never shipped, nor are repositories nested in this one, which git sees as one untracked thing.
 * @throws {BangerError} `bad_request` (no such path, no repository, bare, submodules, no commit yet, no such `from`, not a
 *   branch name, another owner's), `limit_exceeded`, `dependency_missing` (git), `permission`, `cancelled`
 */
export async function planWorkspace(options: PlanOptions): Promise<WorkspacePlanData> {
  const plan = await planRepository(options, 0);
  const { sourcePath, files, bytes } = plan;
  if (files <= MAX_FILES && bytes <= MAX_BYTES) return plan;
  throw new BangerError(
    'limit_exceeded',
    `the repository at ${sourcePath} is too large to ship: ${files} files, ${bytes} bytes`,
    { hint: `at most ${MAX_FILES} files and ${MAX_BYTES} bytes` },
  );
}

async function planRepository(options: PlanOptions, depth: number): Promise<WorkspacePlanData> {
  const { path, branch, from, runner, signal } = options;
  if (from !== undefined && branch === undefined) {
    throw new BangerError('bad_request', '--from needs --branch: the name of the branch that starts there');
  }
  const { headCommit: head, branch: current, ...repo } = await repoState(hostGit(runner, path, signal), path);
  const git = hostGit(runner, repo.topLevel, signal);
  if (branch !== undefined) await checkBranchName(git, branch);
  const tip = from === undefined ? head : await resolveFrom(git, from);
  const { topLevel: sourcePath, ...ofRepo } = repo;
  const part =
    tip === head ? await planWorkingTree(git, repo, options) : await planCommit(git, repo, tip, options);
  const { source, paths, empty } = part;
  const submodules = await planSubmodules(repo, part.submodules, options, depth);
  const total = (of: (part: Sizes) => number): number =>
    submodules.reduce((sum, { plan }) => sum + of(plan), of(part));
  return {
    sourcePath,
    headCommit: tip,
    branch: branch ?? current,
    files: total((part) => part.files),
    bytes: total((part) => part.bytes),
    untrackedLeft: total((part) => part.untrackedLeft),
    displayPaths: paths
      .map(displayPath)
      .concat(submodules.flatMap(({ path, plan }) => plan.displayPaths.map((below) => `${path}/${below}`))),
    submodules,
    emptyDirectories: empty,
    source,
    asked: { branch: branch ?? null, from: from ?? null, includeUntracked: options.includeUntracked },
    ...ofRepo,
  };
}

type Sizes = Pick<WorkspacePlanData, 'files' | 'bytes' | 'untrackedLeft'>;

interface PlanPart extends Sizes {
  readonly source: WorkingTreeSource | CommitSource;
  readonly paths: readonly BytePath[];
  readonly submodules: readonly Submodule[];
  readonly empty: readonly BytePath[];
}

/** Each as a repository of its own, at the commit it is at. */
async function planSubmodules(
  above: RepoFacts,
  submodules: readonly Submodule[],
  { includeUntracked, runner, signal }: PlanOptions,
  depth: number,
): Promise<SubmodulePlan[]> {
  assertFew(above.topLevel, submodules.length, depth);
  const plans: SubmodulePlan[] = [];
  for (const { path, name } of submodules) {
    const options = { path: join(above.topLevel, path), includeUntracked, runner, signal };
    const plan = await planRepository({ ...options, submodules: 'copy' }, depth + 1);
    await assertOwn(above, path, { ...plan, topLevel: plan.sourcePath });
    plans.push({ path, name, plan });
  }
  return plans;
}

async function planWorkingTree(git: HostGit, repo: RepoFacts, options: PlanOptions): Promise<PlanPart> {
  const indexStamp = await indexStampOf(repo.indexPath);
  const indexSeconds = await stat(repo.indexPath).then(
    (found) => Math.floor(found.mtimeMs / 1000),
    () => 0,
  );
  const [entries, others] = await Promise.all([readIndexEntries(git), listUntracked(git)]);
  const links = entries.filter((entry) => entry.mode === GITLINK_MODE).map(({ path }) => path);
  const modules = entries.some((entry) => entry.path === '.gitmodules');
  if (options.submodules === undefined || options.submodules === 'refuse') {
    if (links[0] !== undefined) throw hasSubmodules(repo.topLevel, displayPath(links[0]));
    if (modules && (await declaresSubmodules(git, '.gitmodules'))) throw hasSubmodules(repo.topLevel);
  }
  const found = await findSubmodules(git, repo.topLevel, options.submodules === 'copy' ? links : []);
  const untracked = options.includeUntracked ? others.filter((path) => !path.endsWith('/')) : [];
  const tracked = entries
    .filter(({ path }, index) => path !== entries[index - 1]?.path)
    .map(({ path }) => path);
  const survey = await surveyFiles(repo.topLevel, [...tracked, ...untracked], options.signal);
  return {
    source: {
      kind: 'working-tree',
      entries,
      untracked,
      gone: notIn(survey.paths, tracked, new Set(links)),
      indexSeconds,
      indexStamp,
    },
    paths: survey.paths,
    files: survey.paths.length,
    bytes: survey.bytes,
    untrackedLeft: others.length - untracked.length,
    submodules: found.cloned,
    empty: found.empty,
  };
}

/** Whether a submodule's directory is there is git's to see. */
function notIn(
  found: readonly BytePath[],
  wanted: readonly BytePath[],
  links: ReadonlySet<BytePath>,
): BytePath[] {
  const there = new Set(found);
  return wanted.filter((path) => !there.has(path) && !links.has(path));
}

async function planCommit(
  git: HostGit,
  repo: RepoFacts,
  commit: string,
  { includeUntracked, submodules: about = 'refuse' }: PlanOptions,
): Promise<PlanPart> {
  if (includeUntracked) {
    throw new BangerError(
      'bad_request',
      '--include-untracked ships the working tree, --from another commit ships that commit',
      { hint: 'leave one of the two out' },
    );
  }
  const files: readonly CommitFile[] = await listCommitFiles(git, commit);
  const links = files.filter((file) => file.mode === GITLINK_MODE).map(({ path }) => path);
  if (about === 'refuse') {
    if (links[0] !== undefined) throw hasSubmodules(repo.topLevel, displayPath(links[0]));
    const modules = files.some((file) => file.path === '.gitmodules');
    if (modules && (await declaresSubmodules(git, `${commit}:.gitmodules`)))
      throw hasSubmodules(repo.topLevel);
  }
  const paths = files.filter((file) => file.mode !== GITLINK_MODE).map(({ path }) => path);
  return {
    source: { kind: 'commit' },
    paths,
    files: paths.length,
    // As a checkout of that commit has them: there is no saying what of theirs is there.
    submodules: [],
    empty: links,
    bytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
    // What the working tree holds is not part of that commit: nothing is left behind that was asked for.
    untrackedLeft: 0,
  };
}

/** Not ignored; repositories inside this one end with a slash. */
export async function listUntracked(git: HostGit): Promise<BytePath[]> {
  const listed = await git.run(['ls-files', '-z', '--others', '--exclude-standard'], {
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  const paths = listed.stdout.toString('latin1').split('\0');
  return paths.filter((path) => isSafePath(path.replace(/\/$/, '')));
}

async function resolveFrom(git: HostGit, from: string): Promise<string> {
  const commit = from.startsWith('-') || from.includes('\0') ? undefined : await resolveCommit(git, from);
  if (commit !== undefined) return commit;
  throw new BangerError('bad_request', `--from ${from}: no such commit in the repository`, {
    hint: 'git log --all --oneline lists commits; git fetch brings newer ones',
  });
}

/** git-check-ref-format(1); a branch may be called neither `HEAD` nor like an option. */
export async function checkBranchName(git: HostGit, branch: string): Promise<void> {
  const bad = branch === 'HEAD' || branch.startsWith('-') || branch.includes('\0');
  const checked = bad
    ? undefined
    : await git.run(['check-ref-format', `refs/heads/${branch}`], { okStatuses: [0, 1] });
  if (checked?.status === 0) return;
  throw new BangerError('bad_request', `"${branch}" is not a branch name`, {
    hint: 'letters, digits, - and / between parts, as git branch takes them',
  });
}
