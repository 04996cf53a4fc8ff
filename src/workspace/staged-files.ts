/** New contents of files of a working tree, written to a directory beside them before the first of them changes. */

import { mkdir, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { fileError, removeTree } from '../host/files.ts';
import { bytesOf } from './byte-path.ts';
import { sizesOf } from './guest-objects.ts';
import type { MergeRepo } from './merge-repo.ts';
import type { CountedChange } from './tree-change.ts';

export interface StagedFiles {
  readonly repo: MergeRepo;
  /** Top of the working tree. */
  readonly dir: string;
  readonly changes: readonly CountedChange[];
  /** Has the new files. */
  readonly tree: string;
  readonly scratch: string;
}

/** What a file system gives out at once, most often. */
const BLOCK_BYTES = 4096;
const HINT = 'nothing was written; df -h and df -i show what is full';

/**
 * As a checkout writes them: with the line ends that are configured, and links as links. No filter runs.
 * @param staging to be made in `dir`; the caller removes it
 * @returns the directory in it that has the files under their own paths
 * @throws {BangerError} `no_space`, `permission`, `io_error`, `cancelled`
 */
export async function stageFiles(files: StagedFiles, staging: string): Promise<string> {
  const { repo, dir, changes, tree, scratch } = files;
  const stagedPath = join(staging, 'files');
  const index = { GIT_INDEX_FILE: join(scratch, 'merged-index') };
  await repo.git.run(['read-tree', tree], { env: index });
  const paths = changes.filter(({ kind }) => kind !== 'deleted').map(({ path }) => path);
  try {
    await mkdir(staging, { mode: 0o700 });
    // So that git lists nothing of it.
    await writeFile(join(staging, '.gitignore'), '*\n');
    await mkdir(stagedPath);
    const input = bytesOf(paths.map((path) => `${path}\0`).join(''));
    await repo.git.run(['checkout-index', '--force', '--quiet', '-z', '--stdin'], {
      env: { ...index, GIT_WORK_TREE: stagedPath },
      input,
    });
    return stagedPath;
  } catch (error) {
    if (error instanceof BangerError && error.code === 'cancelled') throw error;
    const cause = error instanceof BangerError ? error : fileError(`cannot write to ${dir}`, error);
    await removeTree(staging, { below: dir });
    const short = await shortage(files);
    if (short === undefined && cause.code !== 'no_space') throw cause;
    const why = short ?? cause.message;
    throw new BangerError('no_space', `no room in ${dir} for the new files beside the old ones: ${why}`, {
      cause,
      hint: HINT,
    });
  }
}

/** Git does not say why it could not write a file. */
async function shortage({ repo, dir, changes }: StagedFiles): Promise<string | undefined> {
  const sizes = await sizesOf(
    repo,
    changes.map((change) => change.to),
  );
  const bytes = changes
    .map(({ to }) => (to === null ? 0 : (sizes.get(to.oid) ?? 0)))
    .reduce((total, size) => total + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES, 0);
  const { bavail, bsize, files, ffree } = await statfs(dir);
  if (bavail * bsize < bytes) return `they need ${bytes} bytes, and ${bavail * bsize} are free`;
  // A file system that has no table of them says that it has none at all.
  const wanted = changes.filter(({ kind }) => kind !== 'deleted').length;
  return files > 0 && ffree < wanted ? `they are ${wanted}, and ${ffree} inodes are free` : undefined;
}
