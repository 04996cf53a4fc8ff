/** What stands in a guest where something else is to be written: directories in the place of files, and the reverse. */

import { setImmediate } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import { MAX_ARCHIVE_PATH_BYTES } from '../guest/archive/records.ts';
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
const MAX_LISTING_BYTES = 64 * 1024 * 1024;
/** The listings are the guest's: as long as it likes. Others have their turn meanwhile. */
const SLICE_MS = 10;

/**
 * Where files and links of `changes` are to be. Each is a path of a change, or one of the directories it is in.
 * @throws {BangerError} as GuestPrograms, `guest_failed`
 */
export async function findObstacles(
  repo: GuestRepo,
  changes: readonly TreeChange[],
): Promise<readonly Obstacle[]> {
  const wanted = new Set<BytePath>();
  for (const { path, to } of changes) if (to !== null && to.mode !== GITLINK_MODE) wanted.add(path);
  const above = new Set<BytePath>();
  for (const path of wanted) for (const parent of parentsOf(path)) above.add(parent);
  const found = new Map<BytePath, BytePath[]>();
  for await (const path of list(repo, ['-type', 'd'])) if (wanted.has(path)) found.set(path, []);
  const others: BytePath[] = [];
  for await (const path of list(repo, ['!', '-type', 'd'])) {
    if (above.has(path)) found.set(path, [path]);
    else if (found.size > 0) others.push(path);
  }
  for await (const path of inTurns(others, repo.signal))
    for (const parent of parentsOf(path)) found.get(parent)?.push(path);
  return [...found].map(([path, files]) => ({ path, files }));
}

function* parentsOf(path: BytePath): Generator<BytePath, void, undefined> {
  for (let above = parentOf(path); above !== ''; above = parentOf(above)) yield above;
}

/** Paths from the top of the repository, without `.git`, and cut where they are longer than any that is shipped. */
async function* list(repo: GuestRepo, type: readonly string[]): AsyncGenerator<BytePath, void, undefined> {
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
  for await (const line of inTurns(found.stdout.toString('latin1').split('\0'), repo.signal)) {
    const path = line.slice('./'.length, './'.length + MAX_ARCHIVE_PATH_BYTES);
    if (path !== '') yield path;
  }
}

async function* inTurns<T>(items: readonly T[], signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  let begun = performance.now();
  for (const item of items) {
    yield item;
    if (performance.now() - begun < SLICE_MS) continue;
    await setImmediate();
    if (signal.aborted) throw new BangerError('cancelled', 'cancelled');
    begun = performance.now();
  }
}
