/** Who has a file open: what locks cannot tell of a program that is idle. */

import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { databaseFiles } from './target-files.ts';

/**
 * Looks at every open file of every process: milliseconds, tens of them on a busy host.
 * @throws {BangerError} `in_use`: a program has the database at `dbPath` open, or one of its companions
 */
export function assertNotOpen(dbPath: string): void {
  if (processesWithOpen(databaseFiles(dbPath)).length > 0) throw openElsewhere(dbPath);
}

/** Names the programs where they can be seen. */
export function openElsewhere(dbPath: string, cause?: unknown): BangerError {
  const pids = processesWithOpen(databaseFiles(dbPath)).filter((pid) => pid !== process.pid);
  const who = pids.length === 0 ? 'another program' : `process ${pids.join(', ')}`;
  return new BangerError('in_use', `${who} has ${dbPath} open: it cannot be replaced`, {
    hint: pids.length === 0 ? `find it: fuser ${dbPath}` : `look at what that is: ps ${pids.join(' ')}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/**
 * Pids of processes that have one of `paths` open, this one too; sorted. Of other users' processes only root sees any:
 * proc_pid_fd(5). Found by name first: to look at the file itself could block, on a dead network file system.
 */
export function processesWithOpen(paths: readonly string[]): readonly number[] {
  const wanted = new Map<string, Set<string>>();
  for (const path of paths) {
    const id = fileId(path);
    if (id === undefined) continue;
    const name = basename(path);
    wanted.set(name, (wanted.get(name) ?? new Set()).add(id));
  }
  if (wanted.size === 0) return [];
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids
    .filter((pid) => hasOpen(pid, wanted))
    .map(Number)
    .sort((a, b) => a - b);
}

function hasOpen(pid: string, wanted: ReadonlyMap<string, ReadonlySet<string>>): boolean {
  const dir = `/proc/${pid}/fd`;
  return namesIn(dir).some((descriptor) => {
    const name = basename(linkOf(`${dir}/${descriptor}`));
    const ids = wanted.get(name);
    if (ids === undefined) return false;
    const id = fileId(`${dir}/${descriptor}`);
    return id !== undefined && ids.has(id);
  });
}

/** Processes end, descriptors are closed and other users' are closed to us, all while this looks. */
function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function fileId(path: string): string | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    return `${stat.dev}:${stat.ino}`;
  } catch {
    return undefined;
  }
}
