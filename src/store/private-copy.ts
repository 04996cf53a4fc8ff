/** Private directories for copies that live for one read: in memory where there is room. */

import { lstatSync, mkdirSync, readdirSync, readlinkSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import { temporaryPath } from '../host/files.ts';
import { pidStartTicks } from '../host/proc.ts';

/** statfs(2): f_type of tmpfs and ramfs. */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);

/** Room for what SQLite adds beside a copy. */
const MARGIN_BYTES = 1024 * 1024;

/** Where copies are made, best first. The last one need not be in memory. */
export function copyPlaces(
  env: Readonly<Record<string, string | undefined>> = process.env,
): readonly string[] {
  const runtime = env['XDG_RUNTIME_DIR'];
  const inMemory = ['/dev/shm', ...(runtime !== undefined && isAbsolute(runtime) ? [runtime] : [])];
  return [...inMemory.filter(isMemoryBacked), resolve(tmpdir())];
}

/**
 * A new, empty directory (0700) with room for `bytes`, in the first of `places` that can hold it. What killed processes
 * of this user left in any of them is removed first.
 * @throws {BangerError} `no_space`: none of them can
 */
export function makeCopyDir(bytes: number, places: readonly string[]): string {
  for (const place of places) sweepCopies(place);
  const reasons: string[] = [];
  for (const place of places) {
    const made = attemptIn(place, bytes + MARGIN_BYTES);
    if (made.path !== undefined) return made.path;
    reasons.push(`${place}: ${made.reason}`);
  }
  throw new BangerError(
    'no_space',
    `no place for a private copy of ${bytes} bytes to read: ${reasons.join('; ')}`,
    { hint: 'set TMPDIR to a directory with room' },
  );
}

/** Removes a directory of `makeCopyDir`; missing is fine. */
export function removeCopyDir(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}

function attemptIn(place: string, bytes: number): { path?: string; reason?: string } {
  try {
    const { bavail, bsize, type } = statfsSync(place);
    if (bavail * bsize < bytes) return { reason: `${bavail * bsize} bytes free` };
    // Filling memory to read a file would be worse than a slow read.
    if (MEMORY_FILE_SYSTEMS.has(type) && process.availableMemory() / 2 < bytes)
      return { reason: 'memory is short' };
    const path = temporaryPath(join(place, ownName()));
    mkdirSync(path, { mode: 0o700 });
    return { path };
  } catch (error) {
    return { reason: errorText(error) };
  }
}

/** A pid means something within its pid namespace only, and a /tmp may be shared between several. */
function ownName(): string {
  const namespace = readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
  return `banger-view-${process.geteuid?.() ?? 0}-${namespace}`;
}

const OWNER = /\.tmp-(\d+)-(\d+)-[0-9a-f]{12}$/;

/** Best effort: what cannot be removed now is in nobody's way. */
function sweepCopies(place: string): void {
  const prefix = `.${ownName()}.tmp-`;
  try {
    for (const name of readdirSync(place)) {
      const owner = name.startsWith(prefix) ? OWNER.exec(name) : null;
      if (owner === null || pidStartTicks(Number(owner[1])) === Number(owner[2])) continue;
      const path = join(place, name);
      const stat = lstatSync(path);
      if (stat.isDirectory() && stat.uid === process.geteuid?.()) removeCopyDir(path);
    }
  } catch {
    // Not listable, or another process swept at the same time.
  }
}

function isMemoryBacked(dir: string): boolean {
  try {
    return MEMORY_FILE_SYSTEMS.has(statfsSync(dir).type);
  } catch {
    return false;
  }
}
