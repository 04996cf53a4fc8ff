/** What is shipped, as a commit: what later differs from it was changed in the guest, or on the host. */

import { lstatSync } from 'node:fs';
import { copyFile, mkdir, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { type BytePath, bytePath, bytesOf } from './byte-path.ts';
import type { HostGit } from './git.ts';
import { objectsDirOf, ownObjects } from './git-objects.ts';
import type { GitSettings } from './guest-git-config.ts';
import type { IndexEntry } from './index-entries.ts';
import { parseTreeChanges, type TreeChange } from './tree-change.ts';
import { withoutFilters } from './without-filters.ts';

export interface WorkingTreeFacts {
  readonly topLevel: string;
  readonly headCommit: string;
  /** The repository's own index. */
  readonly indexPath: string;
  readonly objectsPath: string;
  readonly settings: GitSettings;
  readonly hidden: HiddenEntries;
  /** Tracked, and not there as files or links. Those that a sparse checkout left out are not deleted for that. */
  readonly gone: readonly BytePath[];
  readonly untracked: readonly BytePath[];
  /** What differs from the index, where that is known; else git looks. */
  readonly touched?: TouchedFiles;
}

/** Entries of the index whose files git does not look at. */
export interface HiddenEntries {
  readonly assumedUnchanged: readonly BytePath[];
  /** Left out by a sparse checkout; some may be there all the same. */
  readonly sparse: readonly BytePath[];
}

export interface CommittedTree {
  /** The head's own where nothing differs from it. */
  readonly commit: string;
  readonly tree: string;
  /** From the head's tree to this one. */
  readonly changes: readonly TreeChange[];
}

const MAX_LISTING_BYTES = 256 * 1024 * 1024;
/** Reading so many files twice takes longer than asking git once more. */
const MANY_TOUCHED = 50;
/** The kernel gives files times that are some milliseconds old. */
const CLOCK_SLACK_SECONDS = 1;
const CONFIG = ['core.looseCompression=0', 'core.safecrlf=false'];
/** The same files on the same commit have the same commit, whoever ships them when. */
const IDENTITY = {
  GIT_AUTHOR_NAME: 'banger',
  GIT_AUTHOR_EMAIL: 'banger@localhost',
  GIT_AUTHOR_DATE: '@0 +0000',
  GIT_COMMITTER_NAME: 'banger',
  GIT_COMMITTER_EMAIL: 'banger@localhost',
  GIT_COMMITTER_DATE: '@0 +0000',
};

export function hiddenEntries(entries: readonly IndexEntry[]): HiddenEntries {
  return {
    assumedUnchanged: entries.filter((entry) => entry.assumeUnchanged).map(({ path }) => path),
    sparse: entries.filter((entry) => entry.skipWorktree).map(({ path }) => path),
  };
}

/** The index that goes with the committed tree, with the times of the files. */
export function workingTreeIndexPath(scratchDir: string): string {
  return join(scratchDir, 'working-tree-index');
}

/**
 * Commits the working tree as it is, to objects in `scratchDir`. Nothing is written to the repository. A file that changes between
 * this and its being copied counts as changed in the guest later: the safe side.
 */
export async function commitWorkingTree(
  git: HostGit,
  facts: WorkingTreeFacts,
  scratchDir: string,
): Promise<CommittedTree> {
  const { headCommit, objectsPath } = facts;
  await mkdir(objectsDirOf(scratchDir), { recursive: true });
  const index = await indexOfWorkingTree(git, facts, scratchDir);
  const listed = await git.run(['diff-index', '--cached', '--raw', '-z', '--no-renames', headCommit], {
    env: { ...index, ...ownObjects(scratchDir, objectsPath) },
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  const changes = parseTreeChanges(listed.stdout);
  if (changes.length === 0) return { ...(await committedTree(git, headCommit)), changes };
  // With the repository's objects: only directories in which something differs are written.
  const written = await git.run(['write-tree', '--missing-ok'], {
    env: { ...index, ...ownObjects(scratchDir, objectsPath) },
    config: CONFIG,
  });
  const tree = line(written.stdout);
  const made = await git.run(
    ['commit-tree', tree, '-p', headCommit, '-m', 'the files as they were shipped'],
    {
      env: { ...ownObjects(scratchDir, objectsPath), ...IDENTITY },
      config: CONFIG,
    },
  );
  return { commit: line(made.stdout), tree, changes };
}

/** A commit's own tree. */
export async function committedTree(
  git: HostGit,
  commit: string,
): Promise<{ readonly commit: string; readonly tree: string }> {
  return { commit, tree: line((await git.run(['rev-parse', '--verify', `${commit}^{tree}`])).stdout) };
}

/**
 * A copy of the index, brought up to the working tree.
 * @returns the environment in which git uses it
 */
async function indexOfWorkingTree(
  git: HostGit,
  facts: WorkingTreeFacts,
  scratchDir: string,
): Promise<Record<string, string>> {
  const indexPath = workingTreeIndexPath(scratchDir);
  await copyIndex(facts.indexPath, indexPath);
  const index = { ...withoutFilters(facts.settings), GIT_INDEX_FILE: indexPath };
  // Without the repository's objects: git would touch those that it need not write.
  const env = { ...index, GIT_OBJECT_DIRECTORY: objectsDirOf(scratchDir) };
  const update = async (args: readonly string[], paths: readonly BytePath[]): Promise<boolean> => {
    if (paths.length === 0) return true;
    const input = bytesOf(paths.map((path) => `${path}\0`).join(''));
    const { status } = await git.run(args, { env, config: CONFIG, input, okStatuses: [0, 1, 128] });
    return status !== 128;
  };
  const { assumedUnchanged, sparse } = facts.hidden;
  await update(['update-index', '-z', '--no-assume-unchanged', '--stdin'], assumedUnchanged);
  const root = bytePath(facts.topLevel);
  const isThere = (path: BytePath): boolean =>
    lstatSync(bytesOf(`${root}/${path}`), { throwIfNoEntry: false }) !== undefined;
  await update(['update-index', '-z', '--no-skip-worktree', '--stdin'], sparse.filter(isThere));
  const begunAtMs = Date.now();
  let touched = facts.touched ?? touchedFiles(await touchedEntries(git, env));
  if (touched.changed.length > MANY_TOUCHED) {
    // Most are the same: a repository that was copied, or checked out anew. They need not be written.
    await git.run(['update-index', '-q', '--refresh'], { env, config: CONFIG, okStatuses: [0, 1] });
    touched = touchedFiles(await touchedEntries(git, env));
  }
  const isSparse = new Set(sparse);
  const gone = [...facts.gone, ...touched.deleted].filter((path) => !isSparse.has(path));
  await update(['update-index', '-z', '--force-remove', '--stdin'], gone);
  // A file that has become a FIFO meanwhile is an error, and is left out of the copy.
  const add = ['add', '--update', '--ignore-errors'];
  const isDone = await update([...add, '--pathspec-from-file=-', '--pathspec-file-nul'], touched.changed);
  // One of them has just gone behind a symbolic link.
  if (!isDone) await git.run(add, { env, config: CONFIG, okStatuses: [0, 1] });
  await update(['update-index', '-z', '--add', '--stdin'], facts.untracked);
  // Git has compared the files that were as young as the index. Who changes one later makes it younger than this.
  const seconds = Math.floor(begunAtMs / 1000) - CLOCK_SLACK_SECONDS;
  await utimes(indexPath, seconds, seconds);
  return index;
}

/** With its time, in whole seconds, by which git tells which entries it must not trust. */
async function copyIndex(from: string, to: string): Promise<void> {
  const { mtimeMs } = await stat(from);
  await copyFile(from, to);
  const seconds = Math.floor(mtimeMs / 1000);
  await utimes(to, seconds, seconds);
}

export interface TouchedFiles {
  /** Their times, size, mode or kind are not what the index knows. */
  readonly changed: readonly BytePath[];
  readonly deleted: readonly BytePath[];
}

/** Entries of the index that `env` names whose files are not what it knows of them; the objects of what is there now are not known. */
export async function touchedEntries(git: HostGit, env: Record<string, string>): Promise<TreeChange[]> {
  // Of a submodule only where it is: what was changed in it is its own.
  const format = ['-z', '--raw', '--no-renames', '--ignore-submodules=dirty'];
  const listed = await git.run(['diff-files', ...format], {
    env,
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  return parseTreeChanges(listed.stdout);
}

export function touchedFiles(changes: readonly TreeChange[]): TouchedFiles {
  // Of an unresolved merge git shows neither side.
  const isDeleted = ({ from, to }: TreeChange): boolean => from !== null && to === null;
  return {
    changed: [...new Set(changes.filter((change) => !isDeleted(change)).map(({ path }) => path))],
    deleted: changes.filter(isDeleted).map(({ path }) => path),
  };
}

function line(output: Buffer): string {
  return output.toString('latin1').trim();
}
