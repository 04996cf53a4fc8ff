/**
 * The local collection: `sha256/<64 hex>` (a payload as encoded), `sha256/<64 hex>.manifest.json` and `refs/<name>`.
 * An entry is there when its manifest is; what readers find is whole, or listed with what is wrong with it.
 */

import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { fileError, listDir, removeTree, sweepTemporaries, syncDir, writeFileAtomic } from '../host/files.ts';
import { ensurePrivateDir } from '../host/paths.ts';
import type { Migration } from '../store/migrations/migration.ts';
import { withCollectionLock } from './collection-lock.ts';
import {
  describeDamagedRef,
  describeSnapshot,
  hasManifestFile,
  newestFirst,
  type SnapshotEntry,
} from './snapshot-entry.ts';
import { isUnread, readSnapshotFiles, type SnapshotBytes } from './snapshot-files.ts';
import {
  hexOf,
  isAutomaticRef,
  isHex,
  LATEST,
  MANIFEST_SUFFIX,
  parseRefName,
  parseSnapshotName,
} from './snapshot-names.ts';
import { listRefs, readRef, writeRef } from './snapshot-refs.ts';
import { verify } from './verify.ts';

export type { SnapshotEntry } from './snapshot-entry.ts';

export interface SnapshotPlace {
  /** Undefined for a path: it may hold any snapshot. */
  readonly digest: string | undefined;
  readonly path: string;
}

/** Not verified: that is for who uses it, with `digest` as the one asked for. */
export interface FoundSnapshot extends SnapshotPlace, SnapshotBytes {}

export interface PutSnapshot {
  readonly digest: string;
  readonly path: string;
  /** A good snapshot of this digest was there and is kept, in whatever encoding. */
  readonly existed: boolean;
}

export interface PruneOptions {
  /** At least 1. */
  readonly keep: number;
  /** Only says what it would remove. */
  readonly dryRun: boolean;
  /** Only these are counted and removed. Default: all. */
  readonly among?: (entry: SnapshotEntry) => boolean;
}

export class SnapshotCollection {
  readonly #dir: string;
  readonly #payloads: string;
  readonly #refs: string;
  readonly #migrations: readonly Migration[];

  /** Touches nothing. `migrations`: what `verify` knows. */
  constructor(dir: string, migrations: readonly Migration[]) {
    this.#dir = dir;
    this.#payloads = join(dir, 'sha256');
    this.#refs = join(dir, 'refs');
    this.#migrations = migrations;
  }

  /**
   * Verifies a snapshot and takes it in, then points `refs` to it. Durable when it returns.
   * @throws {ErrVerify} and nothing was changed
   * @throws {BangerError} `bad_request` (a ref's name), `in_use`, `no_space`, `permission`, `io_error`
   */
  async put(snapshot: SnapshotBytes, refs: readonly string[] = []): Promise<PutSnapshot> {
    for (const name of refs) parseRefName(name);
    const { manifest } = verify(snapshot.data, snapshot.manifestBytes, { migrations: this.#migrations });
    const digest = manifest.checksum;
    const path = this.#pathOf(digest);
    return await this.#locked(async () => {
      const existed = await this.#isGood(digest);
      if (!existed) {
        await writeFileAtomic(path, snapshot.data);
        await writeFileAtomic(path + MANIFEST_SUFFIX, snapshot.manifestBytes);
      }
      for (const name of refs) await writeRef(this.#refs, name, digest);
      return { digest, path, existed };
    });
  }

  /**
   * Reads a snapshot by digest, the unique beginning of one, ref, or absolute path of an exported payload.
   * @throws {BangerError} as `resolve`, and `verify_failed` (half of it is missing), `limit_exceeded`, `io_error`
   */
  async read(source: string): Promise<FoundSnapshot> {
    const place = await this.resolve(source);
    const bytes = await readSnapshotFiles(place.path, { followLinks: place.digest === undefined });
    if (bytes === undefined) throw await this.#notFound(source);
    return { ...place, ...bytes };
  }

  /**
   * Where a snapshot lies, whether it is good or not.
   * @throws {BangerError} `not_found` with what is there, `bad_request` (no such name is possible, or several begin so),
   *   `verify_failed` (a damaged ref)
   */
  async resolve(source: string): Promise<SnapshotPlace> {
    const name = parseSnapshotName(source);
    if (name.kind === 'path') return { digest: undefined, path: name.path };
    const digest = name.kind === 'digest' ? name.digest : await this.#digestOf(name, source);
    const path = this.#pathOf(digest);
    if ((await this.#digests()).includes(digest)) return { digest, path };
    if (name.kind !== 'ref') throw await this.#notFound(source);
    throw new BangerError('not_found', `"${source}" points to ${digest}, which is not here`, {
      hint: 'banger state list shows all',
    });
  }

  /** Newest first, damaged ones among them. Never throws for what is in the files. */
  async list(): Promise<readonly SnapshotEntry[]> {
    const refs = await listRefs(this.#refs);
    const pointedTo = refs.flatMap(({ digest }) => (digest === undefined ? [] : [digest]));
    const digests = new Set([...(await this.#digests()), ...pointedTo]);
    const entries: SnapshotEntry[] = [];
    for (const digest of digests) {
      const names = refs.filter((ref) => ref.digest === digest).map(({ name }) => name);
      const entry = await describeSnapshot(digest, names, this.#pathOf(digest));
      if (hasManifestFile(entry) || (await this.#isNamed(digest, names))) entries.push(entry);
    }
    for (const ref of refs.filter(({ digest }) => digest === undefined))
      entries.push(await describeDamagedRef(ref));
    return entries.sort(newestFirst);
  }

  /**
   * Removes all but the newest `keep` good snapshots, those that a ref of the user's points to, and those that only another
   * banger can read. The snapshot taken last (`latest`) counts as the newest. Returns what was removed.
   * @throws {BangerError} `invalid_state`: a damaged ref of the user's, which may point to anything; `in_use`;
   *   `io_error`: also when something could not be read, and may be good
   */
  async prune(options: PruneOptions): Promise<readonly SnapshotEntry[]> {
    if (options.dryRun) return this.#superfluous(await this.list(), options);
    return await this.#locked(async () => {
      const all = await this.list();
      const removed = this.#superfluous(all, options);
      for (const name of removed.flatMap(({ refs }) => refs))
        await removeTree(join(this.#refs, name), { below: this.#refs });
      await syncDir(this.#refs);
      // A manifest without its payload is a damaged snapshot; the other way round it is none.
      const digests = removed.map(({ digest }) => digest).filter((digest) => digest !== '');
      const below = this.#payloads;
      for (const digest of digests) await removeTree(this.#pathOf(digest) + MANIFEST_SUFFIX, { below });
      await syncDir(this.#payloads);
      const kept = new Set(all.filter((entry) => !removed.includes(entry)).map(({ digest }) => digest));
      for (const hex of (await listDir(below)).filter(isHex)) {
        if (!kept.has(`sha256:${hex}`)) await removeTree(join(below, hex), { below });
      }
      await syncDir(this.#payloads);
      return removed;
    });
  }

  #superfluous(
    entries: readonly SnapshotEntry[],
    { keep, among = () => true }: PruneOptions,
  ): readonly SnapshotEntry[] {
    const unread = entries.find((entry) => entry.unread);
    if (unread !== undefined) {
      throw new BangerError(
        'io_error',
        `nothing is pruned while something cannot be read: ${unread.problem}`,
      );
    }
    const lost = entries.find(
      ({ digest, refs }) => digest === '' && refs.some((ref) => !isAutomaticRef(ref)),
    );
    if (lost !== undefined) {
      throw new BangerError('invalid_state', `${lost.problem}: what it keeps cannot be told`, {
        hint: `remove it, and then prune: rm ${lost.path}`,
      });
    }
    const candidates = entries.filter(among);
    const good = candidates.filter(({ problem }) => problem === undefined);
    const latestFirst = [...good].sort((a, b) => Number(isLatest(b)) - Number(isLatest(a)));
    const newest = new Set(latestFirst.slice(0, keep));
    return candidates.filter(
      (entry) => !newest.has(entry) && !entry.foreign && entry.refs.every(isAutomaticRef),
    );
  }

  async #locked<T>(work: () => Promise<T>): Promise<T> {
    try {
      for (const dir of [this.#dir, this.#payloads, this.#refs]) ensurePrivateDir(dir);
      return await withCollectionLock(join(this.#dir, 'lock'), async () => {
        for (const dir of [this.#payloads, this.#refs]) await sweepTemporaries(dir);
        return await work();
      });
    } catch (error) {
      // Some steps, such as syncing a directory, throw the system's own errors.
      const isSystem = error instanceof Error && 'syscall' in error;
      throw isSystem ? fileError(`cannot change the snapshots in ${this.#dir}`, error) : error;
    }
  }

  async #isGood(digest: string): Promise<boolean> {
    try {
      const found = await readSnapshotFiles(this.#pathOf(digest), { followLinks: false });
      if (found === undefined) return false;
      verify(found.data, found.manifestBytes, { migrations: this.#migrations, digest });
      return true;
    } catch (error) {
      // What was read and is wrong is replaced by the good bytes at hand.
      if (error instanceof BangerError && !isUnread(error)) return false;
      throw error;
    }
  }

  async #digestOf(
    name: { readonly name?: string; readonly hex: string | undefined },
    source: string,
  ): Promise<string> {
    const ref = name.name === undefined ? undefined : await readRef(this.#refs, name.name);
    if (ref !== undefined) {
      if (ref.digest !== undefined) return ref.digest;
      throw ref.unread
        ? new BangerError('io_error', `the ref ${ref.path} cannot be read`)
        : new BangerError('verify_failed', `the ref ${ref.path} is damaged`);
    }
    const { hex } = name;
    const found =
      hex === undefined ? [] : (await this.#digests()).filter((one) => one.startsWith(`sha256:${hex}`));
    const [first] = found;
    if (first === undefined) throw await this.#notFound(source);
    if (found.length === 1) return first;
    throw new BangerError('bad_request', `${found.length} snapshots begin with "${source}"`, {
      hint: `one of: ${found.slice(0, MAX_NAMES).join(', ')}`,
    });
  }

  #pathOf(digest: string): string {
    return join(this.#payloads, hexOf(digest));
  }

  /** Of all that have a manifest. */
  async #digests(): Promise<readonly string[]> {
    const names = (await listDir(this.#payloads)).filter((name) => name.endsWith(MANIFEST_SUFFIX));
    const stems = names.map((name) => name.slice(0, -MANIFEST_SUFFIX.length));
    return stems.filter(isHex).map((hex) => `sha256:${hex}`);
  }

  /** Whether a ref still points there: one that was pruned meanwhile is nothing to report. */
  async #isNamed(digest: string, names: readonly string[]): Promise<boolean> {
    for (const name of names) if ((await readRef(this.#refs, name))?.digest === digest) return true;
    return false;
  }

  async #notFound(source: string): Promise<BangerError> {
    const entries = (await this.list().catch(() => [])).filter(({ digest }) => digest !== '');
    const names = [...entries.flatMap(({ refs }) => refs), ...entries.map(({ digest }) => digest)];
    const near = names.filter((name) => name !== source && isNear(source, name)).slice(0, MAX_NAMES);
    const hint = near.length === 0 ? 'banger state list shows all' : `did you mean ${near.join(' or ')}?`;
    return new BangerError('not_found', `no snapshot ${JSON.stringify(source)}`, { hint });
  }
}

const MAX_NAMES = 5;
function isLatest(entry: SnapshotEntry): boolean {
  return entry.refs.includes(LATEST);
}

/** Names one is likely to have meant: they begin alike, or one is inside the other. */
function isNear(source: string, name: string): boolean {
  const bare = (text: string): string => text.replace(/^sha256:/, '').toLowerCase();
  const [a, b] = [bare(source), bare(name)];
  const shortest = Math.min(a.length, b.length, 4);
  return shortest >= 3 && (a.slice(0, shortest) === b.slice(0, shortest) || b.includes(a) || a.includes(b));
}
