/**
 * A merge that knows no renames: each path for itself. Git's own has no such way before 2.50 (it passes over
 * merge.renames=false), and takes for a rename what is none, above all when what it merges has been merged before.
 */

import { type BytePath, bytesOf } from './byte-path.ts';
import type { GitOptions } from './git.ts';
import type { MergeRepo } from './merge-repo.ts';
import type { Merged, MergeSides } from './merge-trees.ts';
import {
  type CountedChange,
  isSameEntry,
  MAX_CHANGES_BYTES,
  parseGuestChanges,
  type TreeChange,
  type TreeEntry,
} from './tree-change.ts';

/** Null: nothing is to be there. */
type Entries = ReadonlyMap<BytePath, TreeEntry | null>;
type MergeCommits = (sides: { readonly ours: string; readonly theirs: string }) => Promise<Merged>;

/** @returns the merged tree, or null when there are conflicts */
export async function mergeByPath(
  repo: MergeRepo,
  sides: MergeSides,
  mergeCommits: MergeCommits,
): Promise<string | null> {
  const [ours, theirs] = await Promise.all([
    changesOf(repo, sides.baseTree, sides.oursTree),
    changesOf(repo, sides.baseTree, sides.theirsTree),
  ]);
  const taken = new Map<BytePath, TreeEntry | null>();
  const disputed: { readonly ours: TreeChange; readonly theirs: TreeChange }[] = [];
  for (const [path, change] of theirs) {
    const own = ours.get(path);
    if (own === undefined) taken.set(path, change.to);
    else if (!isSameEntry(own.to, change.to)) disputed.push({ ours: own, theirs: change });
  }
  // One that is gone on one side only: nothing to merge it with.
  if (disputed.some((one) => one.ours.to === null || one.theirs.to === null)) return null;
  if (disputed.length > 0) {
    const settled = await mergeDisputed(repo, disputed, mergeCommits);
    if (settled === null) return null;
    for (const [path, entry] of settled) taken.set(path, entry);
  }
  const merged = await treeWith(repo, sides.oursTree, taken);
  // A file in the place of a directory, or the other way round, takes what was there away.
  for (const path of (await changesOf(repo, sides.oursTree, merged)).keys())
    if (!taken.has(path)) return null;
  return merged;
}

/** The files that both sides changed, merged as if there were no others. */
async function mergeDisputed(
  repo: MergeRepo,
  disputed: readonly { readonly ours: TreeChange; readonly theirs: TreeChange }[],
  mergeCommits: MergeCommits,
): Promise<Entries | null> {
  const only = (of: (one: { ours: TreeChange; theirs: TreeChange }) => TreeEntry | null): Promise<string> =>
    treeWith(repo, null, new Map(disputed.map((one) => [one.ours.path, of(one)])));
  const base = await only((one) => one.ours.from);
  const ours = await only((one) => one.ours.to);
  const theirs = await only((one) => one.theirs.to);
  const baseCommit = await repo.commit('base', base);
  await repo.commit('host', ours, baseCommit);
  await repo.commit('guest', theirs, baseCommit);
  const merged = await mergeCommits({ ours: 'host', theirs: 'guest' });
  if (merged.conflicts.length > 0) return null;
  const changes = await changesOf(repo, ours, merged.tree);
  return new Map([...changes].map(([path, change]) => [path, change.to]));
}

/** Which paths differ between two trees. */
export async function changesOf(
  repo: MergeRepo,
  from: string,
  to: string,
): Promise<ReadonlyMap<BytePath, CountedChange>> {
  const flags = ['-r', '-z', '--raw', '--no-abbrev', '--no-renames'];
  const listed = await repo.git.run(['diff-tree', ...flags, from, to], { maxOutputBytes: MAX_CHANGES_BYTES });
  return new Map(parseGuestChanges(listed.stdout).map((change) => [change.path, change]));
}

/** A tree (null: the empty one) with other entries. Where one cannot be beside another, it takes its place. */
export async function treeWith(repo: MergeRepo, tree: string | null, entries: Entries): Promise<string> {
  const run = (args: readonly string[], more: GitOptions = {}) =>
    repo.git.run(args, { ...more, env: { GIT_INDEX_FILE: repo.indexPath } });
  await run(tree === null ? ['read-tree', '--empty'] : ['read-tree', tree]);
  const oidLength = (tree ?? [...entries.values()].find((entry) => entry !== null)?.oid ?? '').length;
  // What goes makes room for what comes.
  const lines = [...entries]
    .toSorted(([, one], [, other]) => Number(one !== null) - Number(other !== null))
    .map(([path, entry]) => {
      const { mode, oid } = entry ?? { mode: 0, oid: '0'.repeat(oidLength) };
      return `${mode.toString(8)} ${oid}\t${path}\0`;
    });
  const input = bytesOf(lines.join(''));
  await run(['update-index', '-z', '--index-info'], { input });
  return (await run(['write-tree'])).stdout.toString('latin1').trim();
}
