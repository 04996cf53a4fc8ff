/** A copy of a host repository as a guest has it, in a directory of this host. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { ShippedState } from '../../src/core/model/workspace.ts';
import { type Applied, type ApplyOptions, applyGuestTree } from '../../src/workspace/apply.ts';
import { type GuestTree, withGuestTree } from '../../src/workspace/guest-tree.ts';
import { repoAt, runner, type TestRepo } from './host-repo.ts';
import { LocalGuest } from './local-guest.ts';

export interface GuestCopy {
  readonly repo: TestRepo;
  readonly headCommit: string;
  readonly shipped: Pick<ShippedState, 'commit' | 'tree'>;
  readonly programs: LocalGuest;
  readonly scratchPath: string;
}

/** Everything that is not ignored is shipped. */
export function copyToGuest(host: TestRepo, dir: string): GuestCopy {
  const guest = join(dir, 'guest');
  execFileSync('cp', ['-a', host.dir, guest]);
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', guest, '-c', 'core.safecrlf=false', ...args], {
      encoding: 'utf8',
      stdio: 'pipe',
    }).trim();
  const headCommit = git('rev-parse', 'HEAD');
  git('add', '--all');
  const tree = git('write-tree');
  const isHead = tree === git('rev-parse', 'HEAD^{tree}');
  const commit = isHead ? headCommit : git('commit-tree', tree, '-p', headCommit, '-m', 'shipped');
  git('update-ref', 'refs/banger/shipped', commit);
  return {
    repo: repoAt(guest),
    headCommit,
    shipped: { commit, tree },
    programs: new LocalGuest(),
    scratchPath: join(dir, 'guest-scratch'),
  };
}

export async function lookAtGuest<T>(
  copy: GuestCopy,
  signal: AbortSignal,
  work: (tree: GuestTree) => Promise<T>,
): Promise<T> {
  const { repo, programs, shipped, scratchPath } = copy;
  return await withGuestTree({ path: repo.dir, programs, signal, base: shipped.commit, scratchPath }, work);
}

export async function applyTo(
  copy: GuestCopy,
  dir: string,
  options: Partial<ApplyOptions> = {},
): Promise<Applied> {
  const signal = options.signal ?? new AbortController().signal;
  return await lookAtGuest(copy, signal, (guest) =>
    applyGuestTree({
      guest,
      base: { headCommit: copy.headCommit, tree: copy.shipped.tree, includeUntracked: true },
      dir,
      scratchDir: join(copy.scratchPath, '..', 'host-scratch'),
      umask: 0o022,
      conflictMarkers: false,
      dryRun: false,
      runner,
      signal,
      onProgress: () => undefined,
      ...options,
    }),
  );
}
