/** Writes the files of a commit into a directory of ours, as `git checkout` would, with an index of its own. */

import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import type { HostGit } from './git.ts';
import type { GitSettings } from './guest-git-config.ts';
import { type IndexEntry, readIndexEntries } from './index-entries.ts';
import { withoutFilters } from './without-filters.ts';

export interface CommitCheckout {
  readonly rootPath: string;
  readonly indexPath: string;
  readonly entries: readonly IndexEntry[];
  readonly indexSeconds: number;
}

/**
 * Line ends are converted as configured; the repository's filters (Git LFS among them) are not run: their files come as
 * they are stored. The repository's own index and working tree are not touched.
 * @throws {BangerError} `bad_request` when objects of the commit are missing here
 */
export async function checkOutCommit(
  git: HostGit,
  commit: string,
  settings: GitSettings,
  scratchDir: string,
): Promise<CommitCheckout> {
  const rootPath = join(scratchDir, 'tree');
  const indexPath = join(scratchDir, 'index');
  await mkdir(rootPath);
  const ownTree = { GIT_INDEX_FILE: indexPath, GIT_WORK_TREE: rootPath };
  const made = await git.run(['read-tree', '-u', '--reset', commit], {
    env: { ...ownTree, ...withoutFilters(settings) },
    config: ['core.sparseCheckout=false', 'core.splitIndex=false'],
    okStatuses: [0, 128],
  });
  if (made.status !== 0) {
    throw new BangerError(
      'bad_request',
      `cannot check out ${commit}: ${made.stderr.trim().split('\n').at(-1)}`,
      {
        hint: 'git fsck says what is missing; a partial clone fetches it with git checkout',
      },
    );
  }
  const written = await stat(indexPath);
  return {
    rootPath,
    indexPath,
    entries: await readIndexEntries(git, { GIT_INDEX_FILE: indexPath }),
    indexSeconds: Math.floor(written.mtimeMs / 1000),
  };
}
