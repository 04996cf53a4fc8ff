/** What has changed since the last shipping, where it is only files that git tracks: told by the index that was kept of it. */

import { lstatSync, type Stats } from 'node:fs';
import { type BytePath, bytePath, bytesOf } from './byte-path.ts';
import type { HostGit } from './git.ts';
import { GITLINK_MODE } from './index-entries.ts';
import type { KnownRepos } from './known-repos.ts';
import type { RepoState } from './repo-state.ts';
import { type CommittedTree, commitWorkingTree, touchedEntries, touchedFiles } from './shipped-commit.ts';
import { indexStampOf, type ShippedRecord } from './shipped-record.ts';
import type { TreeChange } from './tree-change.ts';
import { withoutFilters } from './without-filters.ts';

export interface QuickLook {
  readonly repo: RepoState;
  /** Of files as they were shipped; `to` names no object. */
  readonly changes: readonly TreeChange[];
}

/** Files and links that were sent, as they were then; what is missing was not there. */
export type SentFiles = ReadonlyMap<BytePath, Stats>;

/** Of more, most may be as they were: then comparing them is quicker than sending them. */
const MAX_CHANGES = 100;

/**
 * Undefined: another look is needed, because HEAD or what is staged is not what it was, too much has changed, or the repository is
 * not what it seemed.
 * @param keptIndexPath the index that went with `last`
 * @throws {BangerError} what git throws
 */
export async function quickLook(
  git: HostGit,
  repos: KnownRepos,
  sourcePath: string,
  last: ShippedRecord,
  keptIndexPath: string,
): Promise<QuickLook | undefined> {
  if (last.hidden.assumedUnchanged.length > 0 || last.hidden.sparse.length > 0) return undefined;
  const repo = await repos.get(git, sourcePath);
  const isSame =
    repo?.topLevel === sourcePath && repo.headCommit === last.headCommit && last.indexStamp !== '';
  if (!isSame || (await indexStampOf(repo.indexPath)) !== last.indexStamp) return undefined;
  const env = { ...withoutFilters(repo.settings), GIT_INDEX_FILE: keptIndexPath };
  const changes = await touchedEntries(git, env);
  const isUsual = changes.every(({ from, to }) => from !== null && !isSubmodule(from) && !isSubmodule(to));
  return isUsual && changes.length <= MAX_CHANGES ? { repo, changes } : undefined;
}

function isSubmodule(entry: TreeChange['to']): boolean {
  return entry?.mode === GITLINK_MODE;
}

/** Commits what was sent, as `commitWorkingTree` does. Undefined: some of it is not what was sent any more. */
export async function commitSent(
  git: HostGit,
  look: QuickLook,
  sent: SentFiles,
  keptIndexPath: string,
  scratchDir: string,
): Promise<CommittedTree | undefined> {
  const { repo, changes } = look;
  const facts = {
    ...{ ...repo, indexPath: keptIndexPath, gone: [], untracked: [] },
    hidden: { assumedUnchanged: [], sparse: [] },
    touched: touchedFiles(changes),
  };
  const tree = await commitWorkingTree(git, facts, scratchDir);
  return changes.every(({ path }) => isAsSent(repo.topLevel, path, sent)) ? tree : undefined;
}

function isAsSent(topLevel: string, path: BytePath, sent: SentFiles): boolean {
  const before = sent.get(path);
  const now = lstatSync(bytesOf(`${bytePath(topLevel)}/${path}`), { throwIfNoEntry: false });
  if (before === undefined || now === undefined) return before === now || now?.isDirectory() === true;
  return (['ino', 'mode', 'size', 'mtimeMs', 'ctimeMs'] as const).every((key) => now[key] === before[key]);
}
