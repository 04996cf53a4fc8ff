/** Makes what goes into the guest's `.git`: a pack of the last commits, and the few files that point into it. */

import { SHIPPED_REF } from '../core/model/workspace.ts';
import { listCommitFiles } from './commit-files.ts';
import type { HostGit } from './git.ts';
import { guestGitConfig, type GitSettings } from './guest-git-config.ts';
import { shallowHistory } from './history.ts';
import { GITLINK_MODE, type IndexEntry } from './index-entries.ts';
import { packHistory } from './pack.ts';
import type { ObjectFormat } from './repo.ts';

/** One file below `.git`: what it holds, or the file of the host that does. */
export type GitFile =
  | { readonly path: string; readonly content: string | Uint8Array }
  | { readonly path: string; readonly hostPath: string };

export interface GuestGitFacts {
  readonly headCommit: string;
  /** Its objects may lie in the scratch directory. */
  readonly shipped: { readonly commit: string };
  readonly branch: string | null;
  readonly objectFormat: ObjectFormat;
  readonly shallowPath: string;
  readonly objectsPath: string;
  readonly settings: GitSettings;
  readonly entries: readonly IndexEntry[];
}

export const EMPTY_GIT_DIRECTORIES = [
  'refs',
  'refs/heads',
  'refs/tags',
  'refs/banger',
  'objects',
  'objects/info',
  'objects/pack',
];

/** @param scratchDir the pack is made in it */
export async function makeGuestGit(
  git: HostGit,
  facts: GuestGitFacts,
  scratchDir: string,
): Promise<GitFile[]> {
  const { headCommit, branch, objectFormat, settings } = facts;
  const partialClone = isPartialClone(settings);
  const [history, staged] = await Promise.all([
    shallowHistory(git, headCommit, facts.shallowPath),
    stagedObjects(git, headCommit, facts.entries),
  ]);
  const packs = await packHistory(git, {
    tips: [headCommit, facts.shipped.commit, ...staged],
    excluded: [],
    boundary: history.boundary,
    partialClone,
    objectsPath: facts.objectsPath,
    scratchDir,
  });
  const files: GitFile[] = [
    { path: 'HEAD', content: branch === null ? `${headCommit}\n` : `ref: refs/heads/${branch}\n` },
    { path: SHIPPED_REF, content: `${facts.shipped.commit}\n` },
    { path: 'config', content: guestGitConfig({ settings, objectFormat, partialClone }) },
    ...packs,
  ];
  if (branch !== null) {
    const header = '# pack-refs with: peeled fully-peeled sorted \n';
    files.push({ path: 'packed-refs', content: `${header}${headCommit} refs/heads/${branch}\n` });
  }
  if (history.boundary.length > 0) {
    files.push({ path: 'shallow', content: history.boundary.map((commit) => `${commit}\n`).join('') });
  }
  return files;
}

/** Some objects may be missing here, to be fetched from the remote when needed (git-clone(1), `--filter`). */
export function isPartialClone(settings: GitSettings): boolean {
  return [...settings].some(
    ([name, values]) =>
      name === 'extensions.partialclone' ||
      (/^remote\..*\.promisor$/s.test(name) && values.at(-1) === 'true'),
  );
}

/** Objects in the index that the commit does not have: what was added and not yet committed. */
export async function stagedObjects(
  git: HostGit,
  commit: string,
  entries: readonly IndexEntry[],
): Promise<string[]> {
  const committed = new Set((await listCommitFiles(git, commit)).map((file) => file.oid));
  const staged = entries.filter(
    ({ intentToAdd, oid, mode }) => !intentToAdd && mode !== GITLINK_MODE && !committed.has(oid),
  );
  return [...new Set(staged.map((entry) => entry.oid))];
}
