/** Fetches a guest's commits as a branch of a host repository, through git and its helper for `banger::` addresses. */

import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';
import { type Fetched, fetchObjects } from './fetch-objects.ts';
import { type HostGit, hostGit } from './git.ts';
import { type GuestRepo, guestGit } from './guest-git-runner.ts';
import { checkBranchName } from './plan.ts';
import { checkDirectory, findRepo } from './repo.ts';

export interface FetchBranchOptions {
  /** A git address: `banger::NAME:PATH`. */
  readonly address: string;
  /** The directory that holds git-remote-banger. */
  readonly helperDir: string;
  /** The guest's ref, in full, or HEAD. */
  readonly source: string;
  /** Commits since this one are counted. */
  readonly since: string;
  /** In the host's repository. */
  readonly dir: string;
  readonly branch: string;
  /** Permission bits that new files do not get, unless the repository says itself (core.sharedRepository). */
  readonly umask: number;
  /** Also when the branch loses commits by it. */
  readonly force: boolean;
  readonly scratchDir: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

export interface FetchedBranch {
  readonly dir: string;
  readonly commit: string;
  /** Null: the branch is new. */
  readonly oldCommit: string | null;
  readonly commits: number;
}

/** The guest's branch of that name, if there is one. */
export async function findGuestBranch(repo: GuestRepo, branch: string): Promise<string | null> {
  const found = await guestGit(repo, ['show-ref', '--verify', '--quiet', '--', `refs/heads/${branch}`], {
    okStatuses: [0, 1, 128],
  });
  return found.status === 0 ? branch : null;
}

/**
 * Every object that comes is checked, and nothing of the host's repository but that branch changes: no tags, no FETCH_HEAD, no
 * shallow boundary of the guest's. Until everything is there the objects lie in a directory of their own.
 * @throws {BangerError} `bad_request` (no repository, not a branch name), `in_use` (checked out), `already_exists` (it would lose
 *   commits), `guest_failed` (git cannot fetch it), `no_space`, `cancelled`
 */
export async function fetchGuestBranch(options: FetchBranchOptions): Promise<FetchedBranch> {
  const { runner, signal, branch, force, since } = options;
  await checkDirectory(options.dir);
  const { topLevel: dir, objectsPath } = await findRepo(hostGit(runner, options.dir, signal), options.dir);
  const git = hostGit(runner, dir, signal);
  await checkBranchName(git, branch);
  await assertNotCheckedOut(git, branch);
  const ref = `refs/heads/${branch}`;
  const oldCommit = await commitOf(git, ref);
  const config = await settingsOf(git, options.umask);
  const commit = await fetchObjects(git, { ...options, objectsPath, config }, async (fetched) => {
    if (oldCommit !== null && !force) await assertForward(git, fetched, oldCommit, branch);
    await assertNotCheckedOut(git, branch);
  });
  if (commit !== oldCommit) {
    const expected = oldCommit ?? '0'.repeat(commit.length);
    await git.run(['update-ref', '-m', 'banger: fetched from a VM', ref, commit, expected], { config });
  }
  const counted = await git.run(['rev-list', '--count', commit, `^${since}`, '--'], {
    okStatuses: [0, 128],
  });
  return { dir, commit, oldCommit, commits: Number(counted.stdout.toString('latin1').trim()) || 0 };
}

/** How new files of the repository are written: this process makes them for its own user alone. */
async function settingsOf(git: HostGit, umask: number): Promise<readonly string[]> {
  const settings = ['core.fsync=default'];
  const shared = await git.run(['config', '--get', 'core.sharedRepository'], { okStatuses: [0, 1] });
  const bits = (0o666 & ~umask) | 0o600;
  if (shared.status !== 0) settings.push(`core.sharedRepository=0${bits.toString(8)}`);
  return settings;
}

async function assertForward(
  git: HostGit,
  { commit, env }: Fetched,
  oldCommit: string,
  branch: string,
): Promise<void> {
  const has = await git.run(['merge-base', '--is-ancestor', oldCommit, commit], { env, okStatuses: [0, 1] });
  if (has.status === 0) return;
  throw new BangerError('already_exists', `the branch ${branch} has commits that the VM's has not`, {
    hint: '--force gives them up; or take another branch name',
  });
}

async function commitOf(git: HostGit, ref: string): Promise<string | null> {
  const found = await git.run(['rev-parse', '--quiet', '--verify', `${ref}^{commit}`], {
    okStatuses: [0, 1, 128],
  });
  return found.status === 0 ? found.stdout.toString('latin1').trim() : null;
}

async function assertNotCheckedOut(git: HostGit, branch: string): Promise<void> {
  const { stdout } = await git.run(['worktree', 'list', '--porcelain']);
  const lines = stdout.toString('utf8').split('\n');
  const at = lines.indexOf(`branch refs/heads/${branch}`);
  if (at < 0) return;
  const where = lines.slice(0, at).findLast((line) => line.startsWith('worktree '));
  throw new BangerError(
    'in_use',
    `the branch ${branch} is checked out at ${where?.slice('worktree '.length)}`,
    {
      hint: 'take another branch name and merge it there, or merge the files: banger vm workspace export NAME --apply',
    },
  );
}
