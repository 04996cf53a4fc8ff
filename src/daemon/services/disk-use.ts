/** What banger takes on the disk, by kind, and what gives how much of it back. */

import type { Dirent } from 'node:fs';
import { lstat, opendir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { DiskUse, DiskUseRow } from '../../api/results/daemon.ts';
import type { SnapshotView } from '../../api/results/state.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import type { BangerPaths } from '../../host/paths.ts';

const BLOCK_BYTES = 512;
/** A cache of images has some ten files for each; this many take seconds to look at. */
const MAX_ENTRIES = 200_000;

export interface DiskUseDeps {
  readonly paths: BangerPaths;
  readonly vms: () => readonly VmRecord[];
  /** Those that `state prune` would delete. */
  readonly prunable: () => Promise<readonly SnapshotView[]>;
}

interface Measured {
  readonly name: string;
  readonly allocatedBytes: number;
}

/** A kind of things: each an entry of one directory. A new row of `system df` is a new one of these. */
interface Kind {
  readonly kind: string;
  readonly dir: string;
  /** Default: all that is no temporary, whose name begins with a dot. */
  readonly isCounted?: (name: string) => boolean;
  readonly reclaim?: {
    readonly by: string;
    readonly bytes: (entries: readonly Measured[]) => number | Promise<number>;
  };
}

export class DiskUseService {
  readonly #deps: DiskUseDeps;

  constructor(deps: DiskUseDeps) {
    this.#deps = deps;
  }

  /** @throws what an aborted signal has as its reason */
  async measure(signal: AbortSignal): Promise<DiskUse> {
    const { stateDir, cacheDir } = this.#deps.paths;
    const walk = new Walk(signal);
    const kinds = this.#kinds();
    const rows: DiskUseRow[] = [];
    for (const kind of kinds) rows.push(await rowOf(kind, walk));
    const apart = new Set(kinds.map(({ dir }) => dir));
    const rest = (await walk.entriesOf(stateDir)).filter(({ name }) => !apart.has(join(stateDir, name)));
    const others = await measured(stateDir, rest, walk);
    rows.push({
      kind: 'database and logs',
      count: rest.filter((entry) => entry.isFile()).length,
      allocatedBytes: sum(others),
      ...{ reclaimableBytes: 0, reclaim: null },
    });
    return {
      ...{ stateDir, cacheDir, rows },
      allocatedBytes: rows.reduce((total, { allocatedBytes }) => total + allocatedBytes, 0),
      reclaimableBytes: rows.reduce((total, { reclaimableBytes }) => total + reclaimableBytes, 0),
      truncated: walk.isTruncated,
    };
  }

  #kinds(): readonly Kind[] {
    const { paths, vms, prunable } = this.#deps;
    const idle = (): ReadonlySet<string> =>
      new Set(
        vms()
          .filter(({ state, runtime }) => IDLE.has(state) && runtime.pending === undefined)
          .map(({ id }) => id),
      );
    return [
      { kind: 'images', dir: paths.imagesDir },
      { kind: 'kernels', dir: paths.kernelsDir },
      {
        kind: 'templates',
        dir: paths.templatesDir,
        isCounted: (name) => /^[0-9a-f]{64}$/.test(name),
        reclaim: { by: 'max_size = 0 in [templates] of config.toml', bytes: sum },
      },
      {
        kind: 'vms',
        dir: paths.vmsDir,
        reclaim: {
          by: 'banger vm prune',
          bytes: (entries) => {
            const pruned = idle();
            return sum(entries.filter(({ name }) => pruned.has(name)));
          },
        },
      },
      {
        kind: 'state snapshots',
        dir: join(paths.snapshotsDir, 'sha256'),
        isCounted: (name) => /^[0-9a-f]{64}$/.test(name),
        reclaim: {
          by: 'banger state prune',
          bytes: async (entries) => {
            const pruned = new Set((await prunable()).map(({ path }) => basename(path)));
            return sum(entries.filter(({ name }) => pruned.has(name.split('.')[0] ?? '')));
          },
        },
      },
      {
        kind: 'caches',
        dir: paths.cacheDir,
        reclaim: { by: `removing ${paths.cacheDir}; it is made again`, bytes: sum },
      },
    ];
  }
}

/** Of these `vm prune` deletes. */
const IDLE: ReadonlySet<string> = new Set(['created', 'stopped', 'error']);

async function rowOf({ kind, dir, isCounted, reclaim }: Kind, walk: Walk): Promise<DiskUseRow> {
  const entries = await measured(dir, await walk.entriesOf(dir), walk);
  const counted = isCounted ?? ((name: string): boolean => !name.startsWith('.'));
  const reclaimableBytes = (await reclaim?.bytes(entries)) ?? 0;
  return {
    kind,
    count: entries.filter(({ name }) => counted(name)).length,
    allocatedBytes: sum(entries),
    reclaimableBytes,
    reclaim: reclaimableBytes === 0 ? null : (reclaim?.by ?? null),
  };
}

async function measured(dir: string, entries: readonly Dirent[], walk: Walk): Promise<readonly Measured[]> {
  const found: Measured[] = [];
  for (const { name } of entries) found.push({ name, allocatedBytes: await walk.allocated(join(dir, name)) });
  return found;
}

function sum(entries: readonly Measured[]): number {
  return entries.reduce((total, { allocatedBytes }) => total + allocatedBytes, 0);
}

/** Bounded, and follows no symbolic link. What vanishes meanwhile, or may not be read, counts as nothing. */
class Walk {
  readonly #signal: AbortSignal;
  /** By device and inode: a file counts once, whatever it is called and in however many rows it lies. */
  readonly #seen = new Set<string>();
  #left = MAX_ENTRIES;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  get isTruncated(): boolean {
    return this.#left <= 0;
  }

  async entriesOf(dir: string): Promise<readonly Dirent[]> {
    const entries: Dirent[] = [];
    const found = await lstat(dir).catch(() => undefined);
    if (found?.isDirectory() !== true) return entries;
    const opened = await opendir(dir).catch(() => undefined);
    if (opened === undefined) return entries;
    for await (const entry of opened) {
      this.#signal.throwIfAborted();
      this.#left -= 1;
      if (this.isTruncated) break;
      entries.push(entry);
    }
    return entries;
  }

  async allocated(path: string): Promise<number> {
    const found = await lstat(path).catch(() => undefined);
    if (found === undefined) return 0;
    const identity = `${found.dev}:${found.ino}`;
    if (this.#seen.has(identity)) return 0;
    this.#seen.add(identity);
    let bytes = found.blocks * BLOCK_BYTES;
    if (!found.isDirectory()) return bytes;
    for (const entry of await this.entriesOf(path)) bytes += await this.allocated(join(path, entry.name));
    return bytes;
  }
}
