/** What an update puts into the copy's `.git`: objects it lacks, and, when HEAD moves, where HEAD is and what is staged. */

import { readFile, stat } from 'node:fs/promises';
import type { HostGit } from './git.ts';
import { encodeGitIndex, type ShippedStat } from './git-index.ts';
import { ownObjects } from './git-objects.ts';
import { type GitFile, isPartialClone, stagedObjects } from './guest-git.ts';
import { shallowHistory } from './history.ts';
import { GITLINK_MODE, type IndexEntry, readIndexEntries } from './index-entries.ts';
import { packHistory, packObjects } from './pack.ts';
import type { ObjectFormat } from './repo.ts';
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
  /** The copy has all of the history. `known`: a commit that it has for certain. */
  readonly whole?: { readonly known: string | undefined } | undefined;
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
  const files = plan.changes.flatMap(({ path, to }) =>
    to !== null && to.mode !== GITLINK_MODE && ofHead.has(path) ? to.oid : [],
  );
  const oids = [...new Set([shipped.commit, shipped.tree, ...trees, ...files])];
  return await packObjects(git, oids, {
    partialClone: isPartialClone(repo.settings),
    objectsPath: repo.objectsPath,
    scratchDir,
  });
}

export interface HeadFiles {
  /** May come at any time. */
  readonly objects: readonly GitFile[];
  /** In the order they are written. */
  readonly head: readonly GitFile[];
}

/** Objects, and `.git` files that put HEAD, its branch and the index where the host has them. */
export async function headOfUpdate(
  git: HostGit,
  facts: UpdateGitFacts,
  guest: GuestHead,
): Promise<HeadFiles> {
  const { repo, plan, scratchDir } = facts;
  const { shipped } = plan;
  const { branch, headCommit } = shipped;
  const entries = await readIndexEntries(git, plan.stagedIndex);
  const isAhead = guest.commit !== headCommit && (await isAncestor(git, guest.commit, headCommit));
  const known = isAhead || guest.commit === headCommit;
  const history = known ? { excluded: [guest.commit], boundary: [] } : await otherHistory(git, facts);
  const boundary = [...new Set([...guest.boundary, ...history.boundary])].sort();
  const objects = await packHistory(git, {
    tips: [headCommit, shipped.commit, ...(await stagedObjects(git, headCommit, entries))],
    excluded: history.excluded,
    boundary,
    partialClone: isPartialClone(repo.settings),
    objectsPath: repo.objectsPath,
    scratchDir,
  });
  const files: GitFile[] = [];
  if (boundary.length > 0) {
    files.push({ path: 'shallow', content: boundary.map((commit) => `${commit}\n`).join('') });
  }
  files.push({ path: 'index', content: await indexOfCopy(git, { ...plan, ...repo }, entries) });
  if (branch === null) files.push({ path: 'HEAD', content: `${headCommit}\n` });
  else {
    files.push({ path: `refs/heads/${branch}`, content: `${headCommit}\n` });
    files.push({ path: 'HEAD', content: `ref: refs/heads/${branch}\n` });
  }
  return { objects, head: files };
}

/** The copy is not on the way to the new head: what it gets of that one's history. */
async function otherHistory(
  git: HostGit,
  { repo, plan, whole }: UpdateGitFacts,
): Promise<{ readonly excluded: readonly string[]; readonly boundary: readonly string[] }> {
  if (whole === undefined) {
    const { boundary } = await shallowHistory(git, plan.shipped.headCommit, repo.shallowPath);
    return { excluded: [], boundary };
  }
  const { known } = whole;
  const isThere = known !== undefined && (await isAncestor(git, known, known));
  // Where the repository's own history ends.
  const own = await readFile(repo.shallowPath, 'latin1').catch(() => '');
  const boundary = own.split('\n').filter((line) => /^[0-9a-f]{40,64}$/.test(line));
  return { excluded: isThere ? [known] : [], boundary };
}

async function isAncestor(git: HostGit, commit: string, of: string): Promise<boolean> {
  const found = await git.run(['merge-base', '--is-ancestor', commit, of], { okStatuses: [0, 1, 128] });
  return found.status === 0;
}

/** Files that are what is staged need no second look in the guest: they have the times that the index of the working tree knows. */
export async function indexOfCopy(
  git: HostGit,
  { seenIndexPath, objectFormat }: { readonly seenIndexPath: string; readonly objectFormat: ObjectFormat },
  entries: readonly IndexEntry[],
): Promise<Buffer> {
  const seen = await readIndexEntries(git, { GIT_INDEX_FILE: seenIndexPath });
  const writtenAt = await stat(seenIndexPath);
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
  return encodeGitIndex(entries, cleanStat, objectFormat);
}
