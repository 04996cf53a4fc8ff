/** Git in a guest, asked about the copy of a workspace. What it answers is the guest's word: checked for form, and bounded. */

import { BangerError } from '../core/errors.ts';
import { MAX_ARCHIVE_CONTENT_BYTES } from '../guest/archive/records.ts';
import { parseGuestIndex } from './guest-index.ts';
import { guestGit, guestGitFailed, type GuestRepo } from './guest-git-runner.ts';
import type { GuestProgramResult } from './guest-programs.ts';
import type { FileSeen } from './update-records.ts';
import { stagedDigest } from './staged.ts';

const FILE_TIMEOUT_MS = 60_000;
const MAX_FILE_BYTES = 1024 * 1024;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;
const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

export interface GuestBranch {
  /** Below refs/heads/. */
  readonly name: string;
  readonly commit: string;
}

export interface CopyHead {
  readonly commit: string;
  /** Null: a detached HEAD. */
  readonly branch: string | null;
  /** See `stagedDigest`. */
  readonly staged: string;
  /** Commits whose parents the copy lacks. */
  readonly boundary: readonly string[];
  readonly branches: readonly GuestBranch[];
}

export class GuestRepository {
  readonly #repo: GuestRepo;
  readonly #gitDir: string;

  constructor(repo: GuestRepo, gitDir = `${repo.path}/.git`) {
    this.#repo = repo;
    this.#gitDir = gitDir;
  }

  /** @throws {BangerError} `guest_failed`: there is no git, or no repository with a commit */
  async head(): Promise<CopyHead> {
    const [commit, symbolic, staged, shallow, branches] = await Promise.all([
      guestGit(this.#repo, ['rev-parse', '--verify', 'HEAD']),
      guestGit(this.#repo, ['symbolic-ref', '--quiet', 'HEAD'], { okStatuses: [0, 1] }),
      guestGit(this.#repo, ['ls-files', '-z', '--stage'], { maxOutputBytes: MAX_LISTING_BYTES }),
      this.#file('shallow'),
      guestGit(this.#repo, ['for-each-ref', '--format=%(objectname) %(refname)', 'refs/heads/']),
    ]);
    const ref = line(symbolic);
    return {
      commit: oidOf(line(commit)),
      branch: ref.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : null,
      staged: stagedDigest(parseGuestIndex(staged.stdout)),
      boundary: (shallow?.toString('utf8') ?? '').split('\n').filter(Boolean).map(oidOf),
      branches: line(branches).split('\n').filter(Boolean).map(branchOf),
    };
  }

  /** @throws {BangerError} `guest_failed`: HEAD is elsewhere */
  async detach(commit: string): Promise<void> {
    await guestGit(this.#repo, ['update-ref', '--no-deref', 'HEAD', commit, commit]);
  }

  /** @throws {BangerError} `guest_failed`: it is elsewhere */
  async deleteBranch({ name, commit }: GuestBranch): Promise<void> {
    await guestGit(this.#repo, ['update-ref', '-d', `refs/heads/${name}`, commit]);
  }

  /** @param path of a file below `.git` that is small */
  async fileSeen(path: string): Promise<FileSeen> {
    const content = await this.#file(path);
    if (content === undefined || content.length <= MAX_ARCHIVE_CONTENT_BYTES) return { path, content };
    throw new BangerError('guest_failed', `${path} in the guest's repository is too large`);
  }

  /** The commit that the guest says was shipped; undefined: there is no copy that was. */
  async shippedCommit(ref: string): Promise<string | undefined> {
    const found = await this.#file(ref);
    return found === undefined ? undefined : oidOf(found.toString('utf8').trim());
  }

  /** What a file of `.git` says; undefined: it is not there. */
  async #file(name: string): Promise<Buffer | undefined> {
    const { programs, signal } = this.#repo;
    const found = await programs.run(
      { argv: ['cat', `${this.#gitDir}/${name}`], cwd: '/', env: { LC_ALL: 'C' } },
      { signal, timeoutMs: FILE_TIMEOUT_MS, maxOutputBytes: MAX_FILE_BYTES },
    );
    if (found.status === 0) return found.stdout;
    if (found.status === 1) return undefined;
    throw guestGitFailed(this.#repo, found);
  }
}

function line({ stdout }: GuestProgramResult): string {
  return stdout.toString('utf8').trim();
}

function branchOf(text: string): GuestBranch {
  const [commit = '', name] = text.split(' refs/heads/');
  if (name === undefined)
    throw new BangerError('guest_failed', 'the guest lists its branches in an unknown form');
  return { name, commit: oidOf(commit) };
}

function oidOf(text: string): string {
  if (OID.test(text)) return text;
  throw new BangerError('guest_failed', 'the guest names a commit in an unknown form');
}
