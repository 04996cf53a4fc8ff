/**
 * A repository in a scratch directory in which states of a working tree are merged: it reads the objects of the host's
 * repository, has a configuration that names no program, and is thrown away.
 */

import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { isErrno } from '../host/drafts.ts';
import type { GitOptions, HostGit } from './git.ts';
import { objectsDirOf, ownObjects } from './git-objects.ts';
import { guestGitConfig, type GitSettings } from './guest-git-config.ts';
import { isPartialClone } from './guest-git.ts';
import type { ObjectFormat } from './repo.ts';

/** The first with `merge-tree --write-tree`. */
const MIN_GIT = [2, 38] as const;

export interface MergeRepoFacts {
  readonly settings: GitSettings;
  readonly objectFormat: ObjectFormat;
  readonly objectsPath: string;
  /** Top of the host's working tree: which attributes its files have. */
  readonly sourcePath: string;
}

export interface MergeRepo {
  readonly git: HostGit;
  readonly packDir: string;
  /** For an index that is nobody's. */
  readonly indexPath: string;
  /** Makes a commit of a tree, under the name that it has in conflict markers. */
  commit(name: string, tree: string, parent?: string): Promise<string>;
}

/** @throws {BangerError} `dependency_missing`: this host's git cannot merge trees */
export async function makeMergeRepo(
  git: HostGit,
  facts: MergeRepoFacts,
  scratchDir: string,
): Promise<MergeRepo> {
  await assertNewGit(git);
  const dir = join(scratchDir, 'merge.git');
  const packDir = join(objectsDirOf(scratchDir), 'pack');
  await mkdir(join(dir, 'refs', 'heads'), { recursive: true, mode: 0o700 });
  await mkdir(join(dir, 'info'));
  await mkdir(join(dir, 'objects'));
  await mkdir(packDir, { recursive: true });
  const { settings, objectFormat } = facts;
  const config = guestGitConfig({ settings, objectFormat, partialClone: isPartialClone(settings) });
  await writeFile(join(dir, 'config'), config);
  await writeFile(join(dir, 'HEAD'), 'ref: refs/heads/none\n');
  await copyAttributes(git, join(dir, 'info', 'attributes'));
  const env = {
    GIT_DIR: dir,
    GIT_WORK_TREE: facts.sourcePath,
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    ...ownObjects(scratchDir, facts.objectsPath),
  };
  const run = (args: readonly string[], options: GitOptions = {}) =>
    git.run(args, { ...options, env: { ...env, ...options.env } });
  return {
    git: { run },
    packDir,
    indexPath: join(dir, 'index'),
    commit: (...args) => commit({ run }, dir, ...args),
  };
}

const IDENTITY = {
  GIT_AUTHOR_NAME: 'banger',
  GIT_AUTHOR_EMAIL: 'banger@localhost',
  GIT_AUTHOR_DATE: '@0 +0000',
  GIT_COMMITTER_NAME: 'banger',
  GIT_COMMITTER_EMAIL: 'banger@localhost',
  GIT_COMMITTER_DATE: '@0 +0000',
};

async function commit(
  git: HostGit,
  gitDir: string,
  name: string,
  tree: string,
  parent?: string,
): Promise<string> {
  const parents = parent === undefined ? [] : ['-p', parent];
  const made = await git.run(['commit-tree', tree, ...parents, '-m', name], { env: IDENTITY });
  const oid = made.stdout.toString('latin1').trim();
  await writeFile(join(gitDir, 'refs', 'heads', name), `${oid}\n`);
  return oid;
}

async function copyAttributes(git: HostGit, to: string): Promise<void> {
  const found = await git.run(['rev-parse', '--path-format=absolute', '--git-path', 'info/attributes']);
  const from = found.stdout.toString('utf8').replace(/\n$/, '');
  await copyFile(from, to).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
}

async function assertNewGit(git: HostGit): Promise<void> {
  const { stdout } = await git.run(['version']);
  const words = stdout.toString('latin1').trim();
  const match = /(\d+)\.(\d+)/.exec(words);
  const [major, minor] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
  if (major > MIN_GIT[0] || (major === MIN_GIT[0] && minor >= MIN_GIT[1])) return;
  throw new BangerError('dependency_missing', `merging needs git ${MIN_GIT.join('.')}; here is ${words}`, {
    hint: 'without it: banger vm workspace export NAME --output changes.patch, then git apply --3way changes.patch',
  });
}
