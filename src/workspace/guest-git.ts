/** Makes what goes into the guest's `.git`: a pack of the last commits, and the few files that point into it. */

import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SHIPPED_REF, type ShippedState } from '../core/model/workspace.ts';
import { bytePath } from './byte-path.ts';
import { listCommitFiles } from './commit-files.ts';
import type { HostGit } from './git.ts';
import { objectsDirOf, ownObjects } from './git-objects.ts';
import { guestGitConfig, type GitSettings } from './guest-git-config.ts';
import { shallowHistory } from './history.ts';
import type { IndexEntry } from './index-entries.ts';
import type { ObjectFormat } from './repo.ts';

/** One file below `.git`: its text, or the file of the host that holds it. */
export type GitFile =
  | { readonly path: string; readonly text: string }
  | { readonly path: string; readonly hostPath: string };

export interface GuestGitFacts {
  readonly headCommit: string;
  /** Its objects may lie in the scratch directory. */
  readonly shipped: ShippedState;
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

const PACK_DIRECTORY = 'objects/pack';

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
  const packs = await makePack(git, {
    tip: headCommit,
    boundary: history.boundary,
    extra: [facts.shipped.commit, ...staged],
    partialClone,
    objectsPath: facts.objectsPath,
    scratchDir,
  });
  const files: GitFile[] = [
    { path: 'HEAD', text: branch === null ? `${headCommit}\n` : `ref: refs/heads/${branch}\n` },
    { path: SHIPPED_REF, text: `${facts.shipped.commit}\n` },
    { path: 'config', text: guestGitConfig({ settings, objectFormat, partialClone }) },
    ...packs.map((name) => ({
      path: `objects/pack/${name}`,
      hostPath: join(scratchDir, PACK_DIRECTORY, name),
    })),
  ];
  if (branch !== null) {
    const header = '# pack-refs with: peeled fully-peeled sorted \n';
    files.push({ path: 'packed-refs', text: `${header}${headCommit} refs/heads/${branch}\n` });
  }
  if (history.boundary.length > 0) {
    files.push({ path: 'shallow', text: history.boundary.map((commit) => `${commit}\n`).join('') });
  }
  if (partialClone) {
    for (const name of packs.filter((pack) => pack.endsWith('.pack'))) {
      files.push({ path: `objects/pack/${name.replace(/\.pack$/, '.promisor')}`, text: '' });
    }
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
async function stagedObjects(
  git: HostGit,
  commit: string,
  entries: readonly IndexEntry[],
): Promise<string[]> {
  const committed = new Set((await listCommitFiles(git, commit)).map((file) => file.oid));
  const staged = entries.filter((entry) => !entry.intentToAdd && !committed.has(entry.oid));
  return [...new Set(staged.map((entry) => entry.oid))];
}

interface PackOptions {
  readonly tip: string;
  readonly boundary: readonly string[];
  readonly extra: readonly string[];
  readonly partialClone: boolean;
  readonly objectsPath: string;
  readonly scratchDir: string;
}

/**
 * Copies what the host's packs already hold, as it is; searches for no deltas, and stores loose objects without
 * compressing them again. Unlike a fetch, nothing is unpacked or hashed, and the index of the pack comes with it.
 */
async function makePack(git: HostGit, options: PackOptions): Promise<string[]> {
  const directory = join(objectsDirOf(options.scratchDir), 'pack');
  await mkdir(directory, { recursive: true });
  const wanted = [...options.boundary.map((commit) => `--shallow ${commit}`), options.tip, ...options.extra];
  const flags = ['--revs', '--quiet', '--window=0', '--depth=4095', '--delta-base-offset', '--threads=1'];
  if (options.partialClone) flags.push('--missing=allow-promisor');
  await git.run(['pack-objects', ...flags, join(directory, 'pack')], {
    input: `${wanted.join('\n')}\n`,
    // Git begins a pack in its object directory: that must be ours.
    env: ownObjects(options.scratchDir, options.objectsPath),
    // A commit graph would show parents beyond the boundary.
    config: ['pack.compression=0', 'core.commitGraph=false', 'pack.writeReverseIndex=false'],
  });
  const names = await readdir(directory);
  return names.filter((name) => /^pack-[0-9a-f]+\.(pack|idx)$/.test(bytePath(name))).sort();
}
