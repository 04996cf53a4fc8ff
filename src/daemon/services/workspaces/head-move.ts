/** HEAD of a copy put where the host's is: what that would take from the guest, and the last step of an update that moves it. */

import { printable } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import { SHIPPED_REF } from '../../../core/model/workspace.ts';
import type { ArchiveRecord } from '../../../guest/archive/records.ts';
import { bytePath, isSafePath } from '../../../workspace/byte-path.ts';
import type { HostGit } from '../../../workspace/git.ts';
import type { GitFile } from '../../../workspace/guest-git.ts';
import type { CopyHead, GuestBranch, GuestRepository } from '../../../workspace/guest-repository.ts';
import { begunAfter, type ShippedRecord } from '../../../workspace/shipped-record.ts';
import { type FileSeen, gitFileRecords, seenChecks } from '../../../workspace/update-records.ts';
import { waysOut } from './update-sending.ts';

export interface HeadMove {
  readonly head: CopyHead;
  /** Branches of the guest whose place the new one takes: of its name, or of one that leaves no room for it. */
  readonly replaced: readonly GuestBranch[];
  /** Those of them with commits that the host has not. */
  readonly lost: readonly GuestBranch[];
  /** What says where HEAD is, as it was when it was looked at. */
  readonly seen: readonly FileSeen[];
}

/** @throws {BangerError} `guest_failed`: there is no repository with a commit */
export async function lookAtHead(
  git: HostGit,
  copy: GuestRepository,
  to: { readonly branch: string | null; readonly headCommit: string },
): Promise<HeadMove> {
  // Before the commits are asked for: what comes later is noticed.
  const headFile = await copy.fileSeen('HEAD');
  const current = HEAD_FILE.exec(headFile.content?.toString('utf8') ?? '')?.[1];
  // Git refuses such names, too.
  if (current !== undefined && !isSafePath(bytePath(current)))
    throw new BangerError('guest_failed', 'HEAD of the copy names no branch that there can be');
  const names = new Set([current, to.branch].filter((name) => typeof name === 'string'));
  const refs = await Promise.all([...names].map((name) => copy.fileSeen(`refs/heads/${name}`)));
  const head = await copy.head();
  const replaced = head.branches.filter(
    ({ name, commit }) =>
      to.branch !== null && (name === to.branch ? commit !== to.headCommit : isInTheWay(name, to.branch)),
  );
  const known = await commitsHere(
    git,
    replaced.map(({ commit }) => commit),
  );
  const lost = replaced.filter(({ commit }) => !known.has(commit));
  return { head, replaced, lost, seen: [headFile, ...refs] };
}

/** gitrepository-layout(5): a symbolic HEAD. */
const HEAD_FILE = /^ref: refs\/heads\/(.+)\n$/;

/** Git keeps branches as paths: there is either `a` or `a/b`. */
function isInTheWay(name: string, wanted: string): boolean {
  return name.startsWith(`${wanted}/`) || wanted.startsWith(`${name}/`);
}

/** Those of the commits that the repository has. */
async function commitsHere(git: HostGit, commits: readonly string[]): Promise<ReadonlySet<string>> {
  if (commits.length === 0) return new Set();
  const input = `${[...new Set(commits)].join('\n')}\n`;
  const found = await git.run(['cat-file', '--batch-check=%(objectname) %(objecttype)'], { input });
  const lines = found.stdout.toString('latin1').split('\n');
  return new Set(lines.filter((line) => line.endsWith(' commit')).map((line) => line.split(' ')[0] ?? ''));
}

/**
 * What the guest did to its HEAD, its index and its branches stays there.
 * @throws {BangerError} `invalid_state`
 */
export function assertHeadAsShipped(
  { head, lost }: HeadMove,
  last: ShippedRecord | undefined,
  records: readonly ShippedRecord[],
  vmName: string,
): void {
  const what = isHeadOf(head, last, records) ? undefined : whatMoved(head, last);
  if (what !== undefined) {
    const message = `${what} in the copy in VM "${vmName}", and HEAD or the index moved here`;
    throw new BangerError('invalid_state', message, { hint: waysOut(vmName) });
  }
  // What was shipped before may be gone here.
  const other = lost.find(({ commit }) => records.every(({ headCommit }) => headCommit !== commit));
  if (other === undefined) return;
  const name = printable(other.name);
  throw new BangerError(
    'invalid_state',
    `the branch ${name} in VM "${vmName}" has commits that are not here, and would be replaced`,
    {
      hint: `fetch them first: git fetch banger::${vmName} ${name} (banger vm workspace prepare ${vmName} --force replaces it, and keeps them as refs/banger/overwritten/… there)`,
    },
  );
}

function whatMoved(
  { commit, branch, staged }: CopyHead,
  last: ShippedRecord | undefined,
): string | undefined {
  if (commit !== last?.headCommit) return 'commits were made';
  if (branch !== last.branch) return 'another branch was checked out';
  return staged === last.staged ? undefined : 'changes were staged';
}

/** Of one that was cut off nobody may have heard; it may have come to a part of what says where HEAD is. */
function isHeadOf(
  head: CopyHead,
  last: ShippedRecord | undefined,
  records: readonly ShippedRecord[],
): boolean {
  const isAll = records.some(
    ({ headCommit, branch, staged }) =>
      head.commit === headCommit && head.branch === branch && head.staged === staged,
  );
  if (isAll || last === undefined) return isAll;
  const begun = begunAfter(last, records);
  const either = [...begun, last];
  return (
    begun.length > 0 &&
    either.some(({ headCommit }) => head.commit === headCommit) &&
    either.some(({ staged }) => head.staged === staged) &&
    (head.branch === null || either.some(({ branch }) => head.branch === branch))
  );
}

/** What would be taken is kept under names of its own. */
export function keptCommits(commits: readonly string[]): GitFile[] {
  return [...new Set(commits)].map((commit) => ({
    path: `refs/banger/overwritten/${commit.slice(0, 12)}`,
    content: `${commit}\n`,
  }));
}

/**
 * Makes room for the branch.
 * @returns what says where HEAD is after that
 * @throws {BangerError} `guest_failed`: a branch was moved meanwhile
 */
export async function makeRoom(
  copy: GuestRepository,
  { head, replaced, seen }: HeadMove,
  branch: string | null,
): Promise<readonly FileSeen[]> {
  const inTheWay = replaced.filter(({ name }) => name !== branch);
  for (const one of inTheWay) {
    if (one.name === head.branch) await copy.detach(head.commit);
    await copy.deleteBranch(one);
  }
  const gone = new Set(inTheWay.map(({ name }) => name));
  return seen.map((file) => {
    if (gone.has(file.path.slice('refs/heads/'.length))) return { ...file, content: undefined };
    const isDetached = file.path === 'HEAD' && head.branch !== null && gone.has(head.branch);
    return isDetached ? { ...file, content: Buffer.from(`${head.commit}\n`) } : file;
  });
}

/** The last records of an update: HEAD must be where it was looked at. */
export async function* headRecords(
  seen: readonly FileSeen[],
  files: readonly GitFile[],
  shippedNow: string,
): AsyncGenerator<ArchiveRecord, void, undefined> {
  yield* seenChecks(seen);
  for (const file of files) yield* gitFileRecords(file);
  yield* gitFileRecords({ path: SHIPPED_REF, content: `${shippedNow}\n` });
}

export function movedMeanwhile(vmName: string): BangerError {
  return new BangerError(
    'invalid_state',
    `commits were made in the copy in VM "${vmName}" while it was brought up to date, and HEAD stayed where it is there`,
    { hint: waysOut(vmName) },
  );
}
