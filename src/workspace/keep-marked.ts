/** Files that have our conflict markers from an earlier merge: they stay as they are, rather than get a second set around the first. */

import type { BytePath } from './byte-path.ts';
import { changesOf, treeWith } from './merge-by-path.ts';
import type { MergeRepo } from './merge-repo.ts';
import type { Merged } from './merge-trees.ts';
import type { TreeEntry } from './tree-change.ts';

/** Arguments of one git. */
const OIDS_AT_ONCE = 500;
/** Seven, or as many as an attribute says; what follows may name the file. */
const MARKERS = ['^<{7,} host', '^>{7,} guest'];

/** @param merged with conflicts, which stay; @returns it with the host's version of those files that have markers already */
export async function keepMarked(repo: MergeRepo, oursTree: string, merged: Merged): Promise<Merged> {
  const conflicts = new Set(merged.conflicts.map(({ path }) => path));
  const ours = [...(await changesOf(repo, oursTree, merged.tree)).values()].flatMap(
    ({ path, from, kind }): [BytePath, TreeEntry][] =>
      conflicts.has(path) && from !== null && kind === 'modified' ? [[path, from]] : [],
  );
  const marked = await withMarkers(
    repo,
    ours.map(([, { oid }]) => oid),
  );
  if (marked.size === 0) return merged;
  const kept = new Map(ours.filter(([, { oid }]) => marked.has(oid)));
  return {
    tree: await treeWith(repo, merged.tree, kept),
    conflicts: merged.conflicts.map(({ path, why }) => ({
      path,
      why: kept.has(path) ? `${why}; it has markers already` : why,
    })),
  };
}

/** @returns those of the objects that have both markers */
async function withMarkers({ git }: MergeRepo, files: readonly string[]): Promise<ReadonlySet<string>> {
  const oids = [...new Set(files)];
  const found = new Set<string>();
  for (let at = 0; at < oids.length; at += OIDS_AT_ONCE) {
    const patterns = MARKERS.flatMap((pattern) => ['-e', pattern]);
    const flags = ['--files-with-matches', '-z', '-I', '--extended-regexp', '--all-match', '--no-textconv'];
    const { stdout } = await git.run(['grep', ...flags, ...patterns, ...oids.slice(at, at + OIDS_AT_ONCE)], {
      okStatuses: [0, 1],
    });
    for (const oid of stdout.toString('latin1').split('\0')) found.add(oid);
  }
  found.delete('');
  return found;
}
