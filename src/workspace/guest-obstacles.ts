/** What stands in a guest where something else is to be written: directories in the place of files, and the reverse. */

import { BangerError } from '../core/errors.ts';
import { type BytePath, parentOf } from './byte-path.ts';
import { type GuestRepo, lastWords } from './guest-git-runner.ts';
import { GITLINK_MODE } from './index-entries.ts';
import type { TreeChange } from './tree-change.ts';

export interface Obstacle {
  readonly path: BytePath;
  /** All but the directories: what is lost when it goes. */
  readonly files: readonly BytePath[];
}

const TIMEOUT_MS = 10 * 60_000;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;

/**
 * Where files and links of `changes` are to be. Each is a path of a change, or one of the directories it is in.
 * @throws {BangerError} as GuestPrograms, `guest_failed`
 */
export async function findObstacles(
  repo: GuestRepo,
  changes: readonly TreeChange[],
): Promise<readonly Obstacle[]> {
  const [directories, files] = await Promise.all([
    list(repo, ['-type', 'd']),
    list(repo, ['!', '-type', 'd']),
  ]);
  const found = new Map<BytePath, BytePath[]>();
  for (const { path, to } of changes) {
    if (to === null || to.mode === GITLINK_MODE) continue;
    if (directories.has(path)) found.set(path, []);
    for (const above of parentsOf(path)) if (files.has(above)) found.set(above, [above]);
  }
  for (const file of files) for (const above of parentsOf(file)) found.get(above)?.push(file);
  return [...found].map(([path, lost]) => ({ path, files: lost }));
}

function* parentsOf(path: BytePath): Generator<BytePath, void, undefined> {
  for (let above = parentOf(path); above !== ''; above = parentOf(above)) yield above;
}

/** Paths from the top of the repository, without `.git`. */
async function list(repo: GuestRepo, type: readonly string[]): Promise<ReadonlySet<BytePath>> {
  const found = await repo.programs.run(
    {
      argv: ['find', '.', '-path', './.git', '-prune', '-o', ...type, '-print0'],
      cwd: repo.path,
      env: { LC_ALL: 'C' },
    },
    { signal: repo.signal, timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_LISTING_BYTES },
  );
  if (found.status !== 0) {
    const why = lastWords(found.stderr);
    throw new BangerError('guest_failed', `the files at ${repo.path} in the VM cannot be listed: ${why}`);
  }
  const paths = found.stdout.toString('latin1').split('\0');
  return new Set(paths.map((path) => path.slice('./'.length)).filter(Boolean));
}
