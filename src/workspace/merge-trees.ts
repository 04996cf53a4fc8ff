/** The three-way merge itself, by git, on trees alone. */

import { BangerError } from '../core/errors.ts';
import { type BytePath, displayPath } from './byte-path.ts';
import { mergeByPath } from './merge-by-path.ts';
import type { MergeRepo } from './merge-repo.ts';

export interface MergeConflict {
  readonly path: BytePath;
  /** As git calls it: `contents`, `modify/delete`, `add/add` … */
  readonly why: string;
}

export interface Merged {
  /** Where there are conflicts, with markers in the files. */
  readonly tree: string;
  readonly conflicts: readonly MergeConflict[];
}

const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const OID = /^([0-9a-f]{40}|[0-9a-f]{64})$/;
const STAGE = /^[0-7]{6} [0-9a-f]{40,64} [123]\t/;

export interface MergeSides {
  readonly baseTree: string;
  readonly oursTree: string;
  readonly theirsTree: string;
}

/**
 * Files that were renamed on one side are merged under their new names. What git takes for a rename may be none. So conflicts
 * count only if they are there without looking for renames, too, or if both sides gave a file another name.
 */
export async function mergeTrees(repo: MergeRepo, sides: MergeSides): Promise<Merged> {
  const base = await repo.commit('base', sides.baseTree);
  await repo.commit('host', sides.oursTree, base);
  await repo.commit('guest', sides.theirsTree, base);
  const git = (names: { ours: string; theirs: string }): Promise<Merged> => mergeCommits(repo, names);
  const merged = await git({ ours: 'host', theirs: 'guest' });
  if (merged.conflicts.length === 0) return merged;
  const tree = await mergeByPath(repo, sides, git);
  const isRenamedTwice = merged.conflicts.some(({ why }) => why.startsWith('rename/rename'));
  if (tree === null || (isRenamedTwice && tree !== sides.oursTree)) return merged;
  return { tree, conflicts: [] };
}

/** By the names that they have in the repository, which stand in conflict markers. */
async function mergeCommits(repo: MergeRepo, names: { ours: string; theirs: string }): Promise<Merged> {
  const { stdout } = await repo.git.run(
    ['merge-tree', '--write-tree', '-z', '--messages', names.ours, names.theirs],
    {
      okStatuses: [0, 1],
      maxOutputBytes: MAX_OUTPUT_BYTES,
      config: ['merge.directoryRenames=false'],
    },
  );
  return parseMerge(stdout);
}

/** git-merge-tree(1), "OUTPUT": the tree, entries of conflicted files, an empty item, messages. */
export function parseMerge(output: Buffer): Merged {
  const items = output.toString('latin1').split('\0');
  const tree = items[0] ?? '';
  if (!OID.test(tree)) throw unexpected(tree);
  const conflicts = new Map<BytePath, string>();
  let at = 1;
  for (; STAGE.test(items[at] ?? ''); at += 1) {
    const item = items[at] ?? '';
    conflicts.set(item.slice(item.indexOf('\t') + 1), 'conflict');
  }
  for (at += 1; at < items.length - 1; ) {
    const count = Number(items[at]);
    if (!Number.isInteger(count) || count < 0 || count > items.length) throw unexpected(items[at] ?? '');
    const paths = items.slice(at + 1, at + 1 + count);
    const type = /^CONFLICT \((.+)\)$/.exec(items[at + 1 + count] ?? '')?.[1];
    const known = paths.filter((path) => conflicts.has(path));
    if (type !== undefined) for (const path of known) conflicts.set(path, type);
    at += count + 3;
  }
  return { tree, conflicts: [...conflicts].map(([path, why]) => ({ path, why })) };
}

function unexpected(text: string): BangerError {
  return new BangerError(
    'unsupported',
    `git merges trees in an unknown form: ${displayPath(text.slice(0, 80))}`,
  );
}
