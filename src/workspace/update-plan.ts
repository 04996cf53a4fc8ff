/** What must be sent so that a copy in a guest, as it was shipped, becomes what the host's repository is now. */

import { BangerError } from '../core/errors.ts';
import type { VmWorkspace } from '../core/model/workspace.ts';
import { isThere } from '../host/files.ts';
import { type BytePath, displayPath } from './byte-path.ts';
import { checkOutCommit } from './commit-checkout.ts';
import type { HostGit } from './git.ts';
import { ownObjects } from './git-objects.ts';
import { GITLINK_MODE, readIndexEntries } from './index-entries.ts';
import type { RepoState } from './repo-state.ts';
import { resolveCommit } from './repo-state.ts';
import { commitWorkingTree, committedTree, hiddenEntries, workingTreeIndexPath } from './shipped-commit.ts';
import { indexStampOf, type ShippedRecord } from './shipped-record.ts';
import { stagedDigest } from './staged.ts';
import {
  isSameEntry,
  parseTreeChanges,
  parseTreeListing,
  type TreeChange,
  type TreeEntry,
} from './tree-change.ts';

const MAX_LISTING_BYTES = 256 * 1024 * 1024;

/** What a copy is to be. */
export interface NextState {
  readonly shipped: ShippedRecord;
  /** Where the files are read from: the working tree, or a checkout in the scratch directory. */
  readonly rootPath: string;
  /** The environment that names the index with what is staged. */
  readonly stagedIndex: Record<string, string>;
  /** The index that knows the times of the files. */
  readonly seenIndexPath: string;
}

export interface UpdatePlan extends NextState {
  /** From what was shipped to what is to be. */
  readonly changes: readonly TreeChange[];
  /** HEAD, its branch or what is staged is not what it was: the copy's own must follow. */
  readonly movesHead: boolean;
}

/**
 * Looks at the repository as it is now. Objects that it lacks are in `scratchDir` afterwards.
 * @param lastIndexPath the index that went with what was shipped last, if it was kept
 * @throws {BangerError} `bad_request` (the commit asked for is gone, submodules), what git throws
 */
export async function nextState(
  git: HostGit,
  repo: RepoState,
  asked: Pick<VmWorkspace, 'branch' | 'from'> & { readonly untracked: readonly BytePath[] },
  last: ShippedRecord | undefined,
  lastIndexPath: string,
  scratchDir: string,
): Promise<NextState> {
  const commit = asked.from === null ? repo.headCommit : await resolveCommit(git, asked.from);
  if (commit === undefined) {
    throw new BangerError('bad_request', `${asked.from} is not a commit of the repository`, {
      hint: 'give another one: --branch NAME --from COMMIT',
    });
  }
  const branch = asked.branch ?? repo.branch;
  if (commit !== repo.headCommit) return await stateOfCommit(git, repo, commit, branch, scratchDir);
  const indexStamp = await indexStampOf(repo.indexPath);
  const isSameIndex = indexStamp !== '' && indexStamp === last?.indexStamp;
  const index = isSameIndex ? last : await indexFacts(git);
  // It knows what was not committed, too. Files that git does not track would stay in it for ever.
  const isKept = isSameIndex && asked.untracked.length === 0 && (await isThere(lastIndexPath));
  const indexPath = isKept ? lastIndexPath : repo.indexPath;
  const facts = { ...repo, indexPath, gone: [], untracked: asked.untracked, hidden: index.hidden };
  const tree = await commitWorkingTree(git, facts, scratchDir);
  const { staged, hidden } = index;
  return {
    shipped: { ...tree, staged, branch, headCommit: commit, indexStamp, hidden },
    rootPath: repo.topLevel,
    stagedIndex: {},
    seenIndexPath: workingTreeIndexPath(scratchDir),
  };
}

async function indexFacts(git: HostGit): Promise<Pick<ShippedRecord, 'staged' | 'hidden'>> {
  const entries = await readIndexEntries(git);
  return { staged: stagedDigest(entries), hidden: hiddenEntries(entries) };
}

async function stateOfCommit(
  git: HostGit,
  repo: RepoState,
  commit: string,
  branch: string | null,
  scratchDir: string,
): Promise<NextState> {
  const { rootPath, entries, indexPath } = await checkOutCommit(git, commit, repo.settings, scratchDir);
  const tree = { ...(await committedTree(git, commit)), changes: [] };
  const staged = stagedDigest(entries);
  return {
    shipped: { ...tree, staged, branch, headCommit: commit, indexStamp: '', hidden: hiddenEntries([]) },
    rootPath,
    stagedIndex: { GIT_INDEX_FILE: indexPath },
    seenIndexPath: indexPath,
  };
}

/**
 * @throws {BangerError} `not_found`: the commit that was shipped is not in the repository any more
 */
export async function planUpdate(
  git: HostGit,
  last: Omit<ShippedRecord, 'indexStamp'>,
  next: NextState,
): Promise<UpdatePlan> {
  const { shipped } = next;
  const isSameHead = last.headCommit === shipped.headCommit;
  const between = isSameHead ? [] : await commitChanges(git, last.headCommit, shipped.headCommit);
  const changes = composed(last.changes, between, shipped.changes);
  const movesHead = !isSameHead || last.staged !== shipped.staged || last.branch !== shipped.branch;
  return { ...next, changes, movesHead };
}

/** Everything, for a copy of which nothing is known. */
export async function planAnew(
  git: HostGit,
  repo: RepoState,
  next: NextState,
  scratchDir: string,
): Promise<UpdatePlan> {
  return { ...next, changes: await listTree(git, repo, next.shipped.tree, scratchDir), movesHead: true };
}

/** @throws {BangerError} `bad_request`: a submodule, for a copy that has none */
export function assertNoSubmodules(changes: readonly TreeChange[]): void {
  const submodule = changes.find(({ to }) => to?.mode === GITLINK_MODE);
  if (submodule === undefined) return;
  throw new BangerError('bad_request', `${displayPath(submodule.path)} is a submodule now`, {
    hint: 'clone it inside the VM, or make another VM with it: banger vm run PATH --mode full_copy',
  });
}

/**
 * With files that may not be in the guest as `last` says, because shippings after it were cut off: those are sent, whatever differs.
 * @param begun such shippings; @param sent paths that were sent ahead
 */
export async function withUnsettled(
  git: HostGit,
  repo: RepoState,
  plan: UpdatePlan,
  last: ShippedRecord,
  { begun, sent }: { readonly begun: readonly ShippedRecord[]; readonly sent: readonly BytePath[] },
  scratchDir: string,
): Promise<UpdatePlan> {
  const written = new Map<BytePath, TreeEntry | null>(sent.map((path) => [path, null]));
  for (const record of begun) {
    for (const { path, to } of await changesTo(git, last, record))
      written.set(path, to ?? written.get(path) ?? null);
  }
  for (const { path } of plan.changes) written.delete(path);
  if (written.size === 0) return plan;
  const listed = await listTree(git, repo, plan.shipped.tree, scratchDir);
  const now = new Map(listed.map(({ path, to }) => [path, to]));
  const also = [...written].flatMap(([path, there]): TreeChange[] => {
    const to = now.get(path) ?? null;
    if (to !== null) return [{ path, from: null, to }];
    return there === null ? [] : [{ path, from: there, to }];
  });
  return { ...plan, changes: [...plan.changes, ...also] };
}

/** Nothing, where the commit of either is not in the repository any more. */
async function changesTo(git: HostGit, last: ShippedRecord, record: ShippedRecord): Promise<TreeChange[]> {
  try {
    const isSameHead = last.headCommit === record.headCommit;
    const between = isSameHead ? [] : await commitChanges(git, last.headCommit, record.headCommit);
    return composed(last.changes, between, record.changes);
  } catch (error) {
    if (error instanceof BangerError && error.code === 'not_found') return [];
    throw error;
  }
}

/** All that a tree has, as changes from nothing. */
async function listTree(
  git: HostGit,
  repo: RepoState,
  tree: string,
  scratchDir: string,
): Promise<TreeChange[]> {
  const listed = await git.run(['ls-tree', '-r', '-z', '--full-tree', tree], {
    env: ownObjects(scratchDir, repo.objectsPath),
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  return parseTreeListing(listed.stdout);
}

async function commitChanges(git: HostGit, from: string, to: string): Promise<TreeChange[]> {
  const listed = await git.run(['diff-tree', '-r', '-z', '--raw', '--no-renames', from, to], {
    maxOutputBytes: MAX_LISTING_BYTES,
    okStatuses: [0, 128],
  });
  if (listed.status === 0) return parseTreeChanges(listed.stdout);
  throw new BangerError(
    'not_found',
    `the commit the copy was made from, ${from}, is not in the repository any more`,
    { hint: 'add --force to make the copy anew, without what was changed in the guest' },
  );
}

/**
 * From (one commit, changed by `before`) to (the other commit, changed by `after`), where `between` leads from the one commit to
 * the other. What neither names is the same on both sides.
 */
export function composed(
  before: readonly TreeChange[],
  between: readonly TreeChange[],
  after: readonly TreeChange[],
): TreeChange[] {
  const [old, moved, now] = [before, between, after].map(
    (changes) => new Map(changes.map((change) => [change.path, change])),
  ) as [Map<string, TreeChange>, Map<string, TreeChange>, Map<string, TreeChange>];
  const paths = new Set([...old.keys(), ...moved.keys(), ...now.keys()]);
  const changes: TreeChange[] = [];
  for (const path of [...paths].sort()) {
    const step = moved.get(path);
    // A commit's entry that no step names is told by the one that starts there.
    const first: TreeEntry | null =
      old.get(path)?.from ?? (step === undefined ? now.get(path)?.from : step.from) ?? null;
    const last: TreeEntry | null =
      now.get(path)?.from ?? (step === undefined ? old.get(path)?.from : step.to) ?? null;
    const from = old.has(path) ? (old.get(path)?.to ?? null) : first;
    const to = now.has(path) ? (now.get(path)?.to ?? null) : last;
    if (!isSameEntry(from, to)) changes.push({ path, from, to });
  }
  return changes;
}
