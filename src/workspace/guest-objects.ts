/** Trees of the guest, fetched as a pack and checked before anything of theirs is used. */

import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errorText } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import type { GuestTree } from './guest-tree.ts';
import type { MergeRepo } from './merge-repo.ts';
import { MAX_BYTES } from './plan.ts';
import type { TreeEntry } from './tree-change.ts';

const MAX_PACK_BYTES = 16 * 1024 ** 3;

export interface FetchTreesOptions {
  readonly guest: GuestTree;
  readonly repo: MergeRepo;
  /** With all that is in them. */
  readonly trees: readonly string[];
  /** Its objects are here already; null: none are. */
  readonly knownTree: string | null;
  readonly onBytes: (bytes: number) => void;
}

/**
 * Afterwards the trees and everything in them are in the scratch repository, and are what their names say: git has hashed every
 * object, refused malformed ones and links that lead nowhere.
 * @throws {BangerError} `guest_failed`, `verify_failed`, `limit_exceeded`, `no_space`
 */
export async function fetchTrees(options: FetchTreesOptions): Promise<void> {
  const { guest, repo, trees, knownTree } = options;
  const path = join(repo.packDir, 'pack-guest.pack');
  const wanted = [...trees, ...(knownTree === null ? [] : [`^${knownTree}`])];
  await pour(guest, wanted, path, options.onBytes);
  try {
    await repo.git.run(['index-pack', '--strict', `--max-input-size=${MAX_PACK_BYTES}`, path]);
    for (const tree of trees) await repo.git.run(['cat-file', '-e', `${tree}^{tree}`]);
  } catch (cause) {
    if (!(cause instanceof BangerError) || cause.code !== 'io_error') throw cause;
    throw new BangerError('verify_failed', `the VM sent objects that git refuses: ${errorText(cause)}`, {
      cause,
    });
  }
}

async function pour(
  guest: GuestTree,
  wanted: readonly string[],
  path: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  let bytes = 0;
  try {
    const how = ['--revs', '--stdout', '--quiet', '--window=0', '--delta-base-offset', '--threads=1'];
    await guest.git(['-c', 'pack.compression=0', 'pack-objects', ...how], {
      input: `${wanted.join('\n')}\n`,
      maxOutputBytes: MAX_PACK_BYTES,
      onStdout: async (chunk) => {
        await file.writeFile(chunk);
        bytes += chunk.length;
        onBytes(bytes);
      },
    });
  } catch (error) {
    throw error instanceof Error && 'syscall' in error ? fileError(`cannot write ${path}`, error) : error;
  } finally {
    await file.close();
  }
}

/** A few bytes of a pack may stand for a file without end. @throws {BangerError} `limit_exceeded` */
export async function assertSizes(repo: MergeRepo, entries: readonly (TreeEntry | null)[]): Promise<void> {
  let bytes = 0;
  for (const size of (await sizesOf(repo, entries)).values()) bytes += size;
  if (bytes <= MAX_BYTES) return;
  throw new BangerError('limit_exceeded', `the VM's changes are too large: ${bytes} bytes`, {
    hint: `at most ${MAX_BYTES} bytes`,
  });
}

/** How many bytes each object has, by its id; those of submodules, which are not here, have none. */
export async function sizesOf(
  repo: MergeRepo,
  entries: readonly (TreeEntry | null)[],
): Promise<ReadonlyMap<string, number>> {
  const oids = [...new Set(entries.flatMap((entry) => entry?.oid ?? []))];
  if (oids.length === 0) return new Map();
  const { stdout } = await repo.git.run(['cat-file', '--batch-check=%(objectsize)'], {
    input: oids.map((oid) => `${oid}\n`).join(''),
    maxOutputBytes: 64 * 1024 * 1024,
  });
  const lines = stdout.toString('latin1').split('\n');
  return new Map(oids.map((oid, at) => [oid, Number(lines[at]) || 0]));
}
