/** What goes into the git directory of a copy that has all of a repository's history: its branches and tags. */

import { readFile } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { SHIPPED_REF } from '../core/model/workspace.ts';
import { bytePath, displayPath } from './byte-path.ts';
import type { HostGit } from './git.ts';
import { type GitFile, isPartialClone, stagedObjects } from './guest-git.ts';
import { guestGitConfig, type GuestSubmodule } from './guest-git-config.ts';
import type { IndexEntry } from './index-entries.ts';
import { packHistory } from './pack.ts';
import type { WorkspacePlanData } from './plan.ts';

export interface FullGitFacts {
  readonly plan: WorkspacePlanData;
  readonly entries: readonly IndexEntry[];
  /** Its objects may lie in the scratch directory. */
  readonly shippedCommit: string;
  /** As in `GuestConfigFacts`. */
  readonly worktree: string | undefined;
  readonly submodules: readonly GuestSubmodule[];
}

const MAX_LISTING_BYTES = 256 * 1024 * 1024;

/**
 * No hooks, no logs of refs, no remote branches, no stashes; objects of alternates are in the pack like all others.
 * @param scratchDir the pack is made in it
 * @throws {BangerError} `bad_request`: the branch asked for cannot be beside the others
 */
export async function makeFullGit(git: HostGit, facts: FullGitFacts, scratchDir: string): Promise<GitFile[]> {
  const { plan, entries, shippedCommit } = facts;
  const { headCommit, branch, settings, objectFormat, objectsPath } = plan;
  const partialClone = isPartialClone(settings);
  const [refs, staged, shallow] = await Promise.all([
    refsOf(git, branch, headCommit),
    stagedObjects(git, headCommit, entries),
    readFile(plan.shallowPath).catch(() => undefined),
  ]);
  const packs = await packHistory(git, {
    tips: [...new Set([headCommit, shippedCommit, ...refs.values(), ...staged])],
    excluded: [],
    boundary: [],
    partialClone,
    objectsPath,
    scratchDir,
  });
  const { worktree, submodules } = facts;
  return [
    { path: 'HEAD', content: branch === null ? `${headCommit}\n` : `ref: refs/heads/${branch}\n` },
    {
      path: 'config',
      content: guestGitConfig({ settings, objectFormat, partialClone, worktree, submodules }),
    },
    { path: 'packed-refs', content: packedRefs(refs) },
    ...(shallow === undefined ? [] : [{ path: 'shallow', content: shallow }]),
    ...packs,
    { path: SHIPPED_REF, content: `${shippedCommit}\n` },
  ];
}

/** Names in bytes, with what they point to; the branch that the copy is on is at its commit, whatever it is here. */
async function refsOf(
  git: HostGit,
  branch: string | null,
  headCommit: string,
): Promise<ReadonlyMap<string, string>> {
  const listed = await git.run(
    ['for-each-ref', '--format=%(objectname) %(refname)', 'refs/heads', 'refs/tags'],
    {
      maxOutputBytes: MAX_LISTING_BYTES,
    },
  );
  const refs = new Map<string, string>();
  for (const line of listed.stdout.toString('latin1').split('\n')) {
    const [, oid, name] = /^([0-9a-f]{40,64}) (refs\/.+)$/.exec(line) ?? [];
    if (oid !== undefined && name !== undefined) refs.set(name, oid);
  }
  if (branch === null) return refs;
  const own = bytePath(`refs/heads/${branch}`);
  for (const name of refs.keys()) {
    if (!name.startsWith(`${own}/`) && !own.startsWith(`${name}/`)) continue;
    const other = displayPath(name.slice('refs/heads/'.length));
    throw new BangerError('bad_request', `a branch cannot be called ${branch} where there is ${other}`, {
      hint: 'give another name with --branch',
    });
  }
  return refs.set(own, headCommit);
}

/** Without what tags lead to: git looks for itself then. */
function packedRefs(refs: ReadonlyMap<string, string>): Buffer {
  const names = [...refs.keys()].sort();
  const lines = names.map((name) => `${refs.get(name)} ${name}\n`);
  return Buffer.from(`# pack-refs with: sorted \n${lines.join('')}`, 'latin1');
}
