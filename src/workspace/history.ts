/** The last commits of a branch, cut off so that they stand alone. */

import { readFile } from 'node:fs/promises';
import type { HostGit } from './git.ts';

export interface ShallowHistory {
  /** Commits whose parents are left out: the content of a `shallow` file. Empty when the history is complete. */
  readonly boundary: readonly string[];
}

/** Generations, as `git fetch --depth` counts: the tip is the first. */
export const HISTORY_DEPTH = 10;
/** Ten generations of a history full of merges can be many commits. */
const MAX_COMMITS = 1000;

/**
 * @param shallowPath the repository's own `shallow` file: commits whose parents it does not have itself
 */
export async function shallowHistory(
  git: HostGit,
  tip: string,
  shallowPath: string,
): Promise<ShallowHistory> {
  const [listed, ownBoundary] = await Promise.all([
    git.run(['rev-list', '--parents', `--max-count=${MAX_COMMITS}`, tip]),
    readFile(shallowPath, 'latin1').catch(() => ''),
  ]);
  const parents = new Map<string, readonly string[]>();
  for (const line of listed.stdout.toString('latin1').split('\n')) {
    const [commit, ...parentsOfCommit] = line.split(' ');
    if (commit !== undefined && commit !== '') parents.set(commit, parentsOfCommit);
  }
  return { boundary: cut(tip, parents, new Set(ownBoundary.split('\n'))) };
}

/** Breadth first, so that every commit is seen at its least depth. Where one parent must be left out, all are: git knows no other cut. */
function cut(
  tip: string,
  parents: ReadonlyMap<string, readonly string[]>,
  ownBoundary: ReadonlySet<string>,
): string[] {
  const boundary: string[] = [];
  const seen = new Set([tip]);
  let generation = [tip];
  for (let depth = 1; generation.length > 0; depth += 1) {
    const next: string[] = [];
    for (const commit of generation) {
      const its = parents.get(commit) ?? [];
      const isCut = its.length > 0 && (depth === HISTORY_DEPTH || its.some((parent) => !parents.has(parent)));
      if (isCut || ownBoundary.has(commit)) {
        boundary.push(commit);
        continue;
      }
      for (const parent of its) {
        if (seen.has(parent)) continue;
        seen.add(parent);
        next.push(parent);
      }
    }
    generation = next;
  }
  return boundary.sort();
}
