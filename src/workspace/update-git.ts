/** What an update puts into the copy's `.git`: objects it lacks, and, when HEAD moves, where HEAD is and what is staged. */

import { stat } from 'node:fs/promises';
import type { HostGit } from './git.ts';
import { encodeGitIndex, type ShippedStat } from './git-index.ts';
import { ownObjects } from './git-objects.ts';
import { type GitFile, isPartialClone, stagedObjects } from './guest-git.ts';
import { shallowHistory } from './history.ts';
import { type IndexEntry, readIndexEntries } from './index-entries.ts';
import { packHistory, packObjects } from './pack.ts';
import type { RepoState } from './repo-state.ts';
import { parseTreeChanges, TREE_MODE } from './tree-change.ts';
import type { UpdatePlan } from './update-plan.ts';

/** Where the copy's HEAD is now. */
export interface GuestHead {
  readonly commit: string;
  /** Commits whose parents the copy lacks. */
  readonly boundary: readonly string[];
}

export interface UpdateGitFacts {
  readonly repo: RepoState;
  readonly plan: UpdatePlan;
  readonly scratchDir: string;
}

const MAX_LISTING_BYTES = 256 * 1024 * 1024;

/** Objects only: HEAD and what is staged stay as they are. */
export async function objectsOfUpdate(
  git: HostGit,
  {
    repo,
    plan,
    scratchDir,
  }: Omit<UpdateGitFacts, 'plan'> & { readonly plan: Pick<UpdatePlan, 'shipped' | 'changes'> },
): Promise<GitFile[]> {
  const { shipped } = plan;
  const { headCommit } = shipped;
  if (shipped.commit === headCommit) return [];
  const listed = await git.run(
    ['diff-tree', '-r', '-t', '-z', '--raw', '--no-renames', headCommit, shipped.tree],
    {
      env: ownObjects(scratchDir, repo.objectsPath),
      maxOutputBytes: MAX_LISTING_BYTES,
    },
  );
  const trees = parseTreeChanges(listed.stdout).flatMap(({ to }) => (to?.mode === TREE_MODE ? to.oid : []));
  const ofHead = new Set(shipped.changes.map(({ path }) => path));
  const files = plan.changes.flatMap(({ path, to }) => (to !== null && ofHead.has(path) ? to.oid : []));
  const oids = [...new Set([shipped.commit, shipped.tree, ...trees, ...files])];
  return await packObjects(git, oids, {
    partialClone: isPartialClone(repo.settings),
    objectsPath: repo.objectsPath,
    scratchDir,
  });
}

/** Objects, and `.git` files that put HEAD, its branch and the index where the host has them. */
export async function headOfUpdate(
  git: HostGit,
  facts: UpdateGitFacts,
  guest: GuestHead,
): Promise<GitFile[]> {
  const { repo, plan, scratchDir } = facts;
  const { shipped } = plan;
  const { branch, headCommit } = shipped;
  const entries = await readIndexEntries(git, plan.stagedIndex);
  const isAhead = guest.commit !== headCommit && (await isAncestor(git, guest.commit, headCommit));
  const known = isAhead || guest.commit === headCommit;
  const history = known
    ? { boundary: guest.boundary }
    : await shallowHistory(git, headCommit, repo.shallowPath);
  const boundary = [...new Set([...guest.boundary, ...history.boundary])].sort();
  const packs = await packHistory(git, {
    tips: [headCommit, shipped.commit, ...(await stagedObjects(git, headCommit, entries))],
    excluded: known ? [guest.commit] : [],
    boundary,
    partialClone: isPartialClone(repo.settings),
    objectsPath: repo.objectsPath,
    scratchDir,
  });
  const files: GitFile[] = [...packs];
  if (boundary.length > 0) {
    files.push({ path: 'shallow', content: boundary.map((commit) => `${commit}\n`).join('') });
  }
  files.push({ path: 'index', content: await indexOfCopy(git, facts, entries) });
  if (branch === null) files.push({ path: 'HEAD', content: `${headCommit}\n` });
  else {
    files.push({ path: `refs/heads/${branch}`, content: `${headCommit}\n` });
    files.push({ path: 'HEAD', content: `ref: refs/heads/${branch}\n` });
  }
  return files;
}

async function isAncestor(git: HostGit, commit: string, of: string): Promise<boolean> {
  const found = await git.run(['merge-base', '--is-ancestor', commit, of], { okStatuses: [0, 1, 128] });
  return found.status === 0;
}

/** Files that are what is staged need no second look in the guest: they have the times that the index of the working tree knows. */
async function indexOfCopy(
  git: HostGit,
  { repo, plan }: UpdateGitFacts,
  entries: readonly IndexEntry[],
): Promise<Buffer> {
  const seen = await readIndexEntries(git, { GIT_INDEX_FILE: plan.seenIndexPath });
  const writtenAt = await stat(plan.seenIndexPath);
  // A file of the same second may have changed again unseen.
  const quietBeforeMs = Math.floor(writtenAt.mtimeMs / 1000) * 1000;
  const now = new Map(seen.map((entry) => [entry.path, entry]));
  const cleanStat = (entry: IndexEntry): ShippedStat | undefined => {
    const found = now.get(entry.path);
    if (entry.stage !== 0 || entry.intentToAdd || found?.stat === undefined) return undefined;
    if (found.oid !== entry.oid || found.mode !== entry.mode || found.stat.mtimeMs >= quietBeforeMs)
      return undefined;
    return { mtimeSeconds: Math.floor(found.stat.mtimeMs / 1000), sizeBytes: found.stat.sizeBytes };
  };
  return encodeGitIndex(entries, cleanStat, repo.objectFormat);
}
