/** What is shipped, as a commit: what later differs from it was changed in the guest, or on the host. */

import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ShippedState } from '../core/model/workspace.ts';
import { type BytePath, bytesOf } from './byte-path.ts';
import type { HostGit } from './git.ts';
import { objectsDirOf, ownObjects } from './git-objects.ts';
import type { GitSettings } from './guest-git-config.ts';
import { withoutFilters } from './without-filters.ts';

export interface ShippedFacts {
  readonly headCommit: string;
  /** The repository's own index. */
  readonly indexPath: string;
  readonly objectsPath: string;
  readonly settings: GitSettings;
  /** Tracked, and not there as files or links. */
  readonly gone: readonly BytePath[];
  readonly untracked: readonly BytePath[];
}

/** The same files on the same commit have the same commit, whoever ships them when. */
const IDENTITY = {
  GIT_AUTHOR_NAME: 'banger',
  GIT_AUTHOR_EMAIL: 'banger@localhost',
  GIT_AUTHOR_DATE: '@0 +0000',
  GIT_COMMITTER_NAME: 'banger',
  GIT_COMMITTER_EMAIL: 'banger@localhost',
  GIT_COMMITTER_DATE: '@0 +0000',
};

/** In the scratch directory: the index of the working tree as it was shipped. */
export function shippedIndexPath(scratchDir: string): string {
  return join(scratchDir, 'shipped-index');
}

/**
 * Commits the working tree as it is, to objects in `scratchDir` and with an index there. A file that changes between this and its
 * being copied counts as changed in the guest later: the safe side.
 */
export async function commitWorkingTree(
  git: HostGit,
  facts: ShippedFacts,
  scratchDir: string,
): Promise<ShippedState> {
  const indexPath = shippedIndexPath(scratchDir);
  await mkdir(objectsDirOf(scratchDir), { recursive: true });
  await copyFile(facts.indexPath, indexPath);
  const index = { ...withoutFilters(facts.settings), GIT_INDEX_FILE: indexPath };
  // Without the repository's objects: git would touch those that it need not write.
  const env = { ...index, GIT_OBJECT_DIRECTORY: objectsDirOf(scratchDir) };
  const config = ['core.looseCompression=0', 'core.safecrlf=false'];
  const update = async (how: string, paths: readonly BytePath[]): Promise<void> => {
    if (paths.length === 0) return;
    const input = bytesOf(paths.map((path) => `${path}\0`).join(''));
    await git.run(['update-index', '-z', how, '--stdin'], { env, config, input });
  };
  await update('--force-remove', facts.gone);
  // A file that has become a FIFO since the plan is an error here, and is left out of the copy.
  await git.run(['add', '--update', '--ignore-errors'], { env, config, okStatuses: [0, 1] });
  await update('--add', facts.untracked);
  const isHead = await git.run(['diff-index', '--cached', '--quiet', facts.headCommit], {
    env: { ...index, ...ownObjects(scratchDir, facts.objectsPath) },
    okStatuses: [0, 1],
  });
  if (isHead.status === 0) return await shippedAsCommitted(git, facts.headCommit);
  const tree = line(await git.run(['write-tree', '--missing-ok'], { env, config }));
  const made = await git.run(
    ['commit-tree', tree, '-p', facts.headCommit, '-m', 'the files as they were shipped'],
    { env: { ...ownObjects(scratchDir, facts.objectsPath), ...IDENTITY }, config },
  );
  return { commit: line(made), tree };
}

/** A copy of a commit's own files. */
export async function shippedAsCommitted(git: HostGit, commit: string): Promise<ShippedState> {
  return { commit, tree: line(await git.run(['rev-parse', '--verify', `${commit}^{tree}`])) };
}

function line({ stdout }: { readonly stdout: Buffer }): string {
  return stdout.toString('latin1').trim();
}
