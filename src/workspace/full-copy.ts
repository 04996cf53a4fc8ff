/** A whole repository with its history and its submodules, as one archive. */

import { mkdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { ShippedState } from '../core/model/workspace.ts';
import { type ArchiveRecord, isArchivePath } from '../guest/archive/records.ts';
import { fileError, makeTemporaryDir, removeTree } from '../host/files.ts';
import type { CommandRunner } from '../host/runner.ts';
import { type BytePath, bytePath, bytesOf } from './byte-path.ts';
import { checkOutCommit } from './commit-checkout.ts';
import { makeFullGit } from './full-git.ts';
import { hostGit } from './git.ts';
import { EMPTY_GIT_DIRECTORIES, type GitFile } from './guest-git.ts';
import type { IndexEntry } from './index-entries.ts';
import type { WorkspacePlanData } from './plan.ts';
import { workingTreeFacts } from './ship.ts';
import { commitWorkingTree, committedTree, hiddenEntries, workingTreeIndexPath } from './shipped-commit.ts';
import type { ShippedRecord } from './shipped-record.ts';
import { stagedDigest } from './staged.ts';
import { isActive } from './submodules.ts';
import { treeRecords } from './tree-records.ts';
import { indexOfCopy } from './update-git.ts';
import { gitFileRecords } from './update-records.ts';

export interface FullCopyOptions {
  readonly plan: WorkspacePlanData;
  /** Temporary files go into a new directory in here, which is removed again. Made when missing. */
  readonly scratchDir: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onFile: (filesDone: number) => void;
}

/** One repository of a copy. */
export interface CopiedRepo {
  /** Below the top of the copy; the top's own is empty. */
  readonly path: string;
  /** Below `.git` of the top: empty, `modules/<name>`, `modules/<name>/modules/<name>` … */
  readonly gitDir: string;
  readonly record: ShippedRecord;
}

export interface FullCopy {
  /** That of the top is the first. */
  readonly repos: readonly CopiedRepo[];
  /** To be sent to an empty directory, once. */
  records(): AsyncGenerator<ArchiveRecord, void, undefined>;
}

interface ReadyRepo extends CopiedRepo {
  readonly plan: WorkspacePlanData;
  readonly rootPath: string;
  readonly entries: readonly IndexEntry[];
  readonly untracked: readonly BytePath[];
  readonly gitFiles: readonly GitFile[];
}

/** Of those in a copy's git directory. */
const LONGEST_GIT_PATH = `objects/pack/pack-${'0'.repeat(64)}.promisor`;
const DIRECTORY_MODE = 0o755;

/** Runs `work` with a copy of the plan's files as they are then. @throws {BangerError} as `buildWorkspaceImage` */
export async function withFullCopy<T>(
  options: FullCopyOptions,
  work: (copy: FullCopy) => Promise<T>,
): Promise<T> {
  const { plan, scratchDir, onFile } = options;
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const scratch = await makeTemporaryDir(join(scratchDir, 'workspace')).catch((error: unknown) => {
    throw fileError(`cannot use ${scratchDir}`, error);
  });
  try {
    const repos: ReadyRepo[] = [];
    for (const place of placesOf(plan, '', '')) {
      const own = join(scratch, String(repos.length));
      await mkdir(own);
      repos.push(await readyRepo(options, place, own));
    }
    return await work({ repos, records: () => copyRecords(repos, onFile) });
  } finally {
    await removeTree(scratch, { below: scratchDir });
  }
}

interface Place extends Pick<CopiedRepo, 'path' | 'gitDir'> {
  readonly plan: WorkspacePlanData;
}

function placesOf(plan: WorkspacePlanData, path: string, gitDir: string): Place[] {
  const below = plan.submodules.flatMap((one) =>
    placesOf(one.plan, join(path, one.path), join(gitDir, 'modules', one.name)),
  );
  if (path === '' || isArchivePath(bytesOf(bytePath(join('.git', gitDir, LONGEST_GIT_PATH)))))
    return [{ path, gitDir, plan }, ...below];
  throw new BangerError('bad_request', `the submodule ${path} cannot be copied: its path is too long`);
}

async function readyRepo(
  { runner, signal }: FullCopyOptions,
  { path, gitDir, plan }: Place,
  scratch: string,
): Promise<ReadyRepo> {
  const git = hostGit(runner, plan.sourcePath, signal);
  const { headCommit, branch, settings, objectFormat } = plan;
  const isWorkingTree = plan.source.kind === 'working-tree';
  const source = isWorkingTree
    ? { ...plan.source, rootPath: plan.sourcePath, indexPath: '' }
    : { ...(await checkOutCommit(git, headCommit, settings, scratch)), untracked: [], indexStamp: '' };
  const { entries, untracked, rootPath, indexStamp } = source;
  const tree = isWorkingTree
    ? await commitWorkingTree(git, workingTreeFacts(plan, plan.source), scratch)
    : { ...(await committedTree(git, headCommit)), changes: [] };
  const seenIndexPath = isWorkingTree ? workingTreeIndexPath(scratch) : source.indexPath;
  const submodules = plan.submodules.map((one) => ({ name: one.name, isActive: isActive(settings, one) }));
  const worktree = path === '' ? undefined : relative(join('/', '.git', gitDir), join('/', path));
  const gitFiles = [
    ...(await makeFullGit(git, { plan, entries, shippedCommit: tree.commit, worktree, submodules }, scratch)),
    { path: 'index', content: await indexOfCopy(git, { seenIndexPath, objectFormat }, entries) },
  ];
  const shipped: ShippedState = {
    commit: tree.commit,
    tree: tree.tree,
    branch,
    staged: stagedDigest(entries),
  };
  const hidden = hiddenEntries(isWorkingTree ? entries : []);
  const record = { ...shipped, headCommit, changes: tree.changes, indexStamp, hidden };
  return { path, gitDir, plan, record, rootPath, entries, untracked, gitFiles };
}

async function* copyRecords(
  repos: readonly ReadyRepo[],
  onFile: (filesDone: number) => void,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  let done = 0;
  const count = (): void => {
    done += 1;
    onFile(done);
  };
  // Those inside come first: a directory gets its time after everything in it.
  for (const repo of repos.toReversed()) {
    yield* repoRecords(repo, count);
  }
}

async function* repoRecords(
  { path, gitDir, plan, rootPath, entries, untracked, gitFiles }: ReadyRepo,
  onFile: () => void,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  const mtimeNs = BigInt(Date.now()) * 1_000_000n;
  const prefix = path === '' ? '' : `${bytePath(path)}/`;
  for (const empty of plan.emptyDirectories)
    yield { kind: 'directory', path: bytesOf(`${prefix}${empty}`), mode: DIRECTORY_MODE, mtimeNs };
  const tracked = entries.map((entry) => entry.path).filter((one, at, all) => one !== all[at - 1]);
  yield* treeRecords({ rootPath, paths: [...tracked, ...untracked], prefix, onFile });
  for (const directory of EMPTY_GIT_DIRECTORIES) {
    const target = bytesOf(bytePath(join('.git', gitDir, directory)));
    yield { kind: 'directory', path: target, mode: DIRECTORY_MODE, mtimeNs };
  }
  if (path !== '') yield* linkRecords(path, gitDir, mtimeNs);
  for (const file of gitFiles) yield* gitFileRecords({ ...file, path: join(gitDir, file.path) });
}

/** The `.git` of a submodule: a file that says where its git directory is. */
function* linkRecords(
  path: string,
  gitDir: string,
  mtimeNs: bigint,
): Generator<ArchiveRecord, void, undefined> {
  const content = Buffer.from(`gitdir: ${relative(join('/', path), join('/', '.git', gitDir))}\n`);
  const target = bytesOf(bytePath(join(path, '.git')));
  yield { kind: 'file', path: target, mode: 0o644, mtimeNs, sizeBytes: content.length };
  yield { kind: 'data', offset: 0, bytes: content };
  yield { kind: 'fileEnd', sizeBytes: content.length };
}
