/** A host repository as one look at it shows it. */

import { BangerError } from '../core/errors.ts';
import type { HostGit } from './git.ts';
import { type GitSettings, parseGitSettings } from './guest-git-config.ts';
import { checkDirectory, findRepo, type RepoFacts } from './repo.ts';

export interface RepoState extends RepoFacts {
  readonly headCommit: string;
  /** Null: a detached HEAD. */
  readonly branch: string | null;
  readonly settings: GitSettings;
}

/** @throws {BangerError} what `findRepo` throws; `bad_request`: no commit yet */
export async function repoState(git: HostGit, path: string): Promise<RepoState> {
  await checkDirectory(path);
  const [found, ...answers] = await Promise.allSettled([
    findRepo(git, path),
    resolveCommit(git, 'HEAD'),
    currentBranch(git),
    git.run(['config', '-z', '--list']),
  ]);
  // What is wrong with the repository as a whole is the better answer.
  if (found.status === 'rejected') throw found.reason;
  const [head, branch, listed] = answers;
  for (const answer of answers) if (answer.status === 'rejected') throw answer.reason;
  const headCommit = head.status === 'fulfilled' ? head.value : undefined;
  if (headCommit === undefined) {
    throw new BangerError('bad_request', `the repository at ${found.value.topLevel} has no commit yet`, {
      hint: `git -C '${found.value.topLevel}' commit --allow-empty -m start`,
    });
  }
  return {
    ...found.value,
    headCommit,
    branch: branch.status === 'fulfilled' ? branch.value : null,
    settings: parseGitSettings(listed.status === 'fulfilled' ? listed.value.stdout : Buffer.alloc(0)),
  };
}

async function currentBranch(git: HostGit): Promise<string | null> {
  const found = await git.run(['symbolic-ref', '--quiet', 'HEAD'], { okStatuses: [0, 1] });
  const ref = found.stdout.toString('utf8').replace(/\n$/, '');
  return ref.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : null;
}

/** Undefined: there is no such commit. */
export async function resolveCommit(git: HostGit, name: string): Promise<string | undefined> {
  const found = await git.run(['rev-parse', '--quiet', '--verify', '--end-of-options', `${name}^{commit}`], {
    okStatuses: [0, 1, 128],
  });
  const oid = found.stdout.toString('latin1').trim();
  return found.status === 0 && /^[0-9a-f]{40,64}$/.test(oid) ? oid : undefined;
}
