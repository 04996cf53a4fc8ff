/** Packs of objects for a guest, made beside the repository. */

import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { bytePath } from './byte-path.ts';
import type { HostGit } from './git.ts';
import { objectsDirOf, ownObjects } from './git-objects.ts';
import type { GitFile } from './guest-git.ts';

interface PackOptions {
  readonly partialClone: boolean;
  readonly objectsPath: string;
  /** May hold objects of its own, which can be packed, too. */
  readonly scratchDir: string;
}

export interface HistoryPackOptions extends PackOptions {
  /** With everything they lead to, but for what the excluded commits lead to. */
  readonly tips: readonly string[];
  readonly excluded: readonly string[];
  /** Commits whose parents do not count. */
  readonly boundary: readonly string[];
}

/** @returns files for the guest's `.git` */
export async function packHistory(git: HostGit, options: HistoryPackOptions): Promise<GitFile[]> {
  const { boundary, tips, excluded } = options;
  const lines = [
    ...boundary.map((commit) => `--shallow ${commit}`),
    ...tips,
    ...excluded.map((commit) => `^${commit}`),
  ];
  return await makePack(git, ['--revs'], lines, options);
}

/** Of just these objects. */
export async function packObjects(
  git: HostGit,
  oids: readonly string[],
  options: PackOptions,
): Promise<GitFile[]> {
  return oids.length === 0 ? [] : await makePack(git, [], oids, options);
}

/**
 * Copies what the host's packs already hold, as it is; searches for no deltas, and stores loose objects without
 * compressing them again. Unlike a fetch, nothing is unpacked or hashed, and the index of the pack comes with it.
 */
async function makePack(
  git: HostGit,
  mode: readonly string[],
  lines: readonly string[],
  options: PackOptions,
): Promise<GitFile[]> {
  const directory = join(objectsDirOf(options.scratchDir), 'pack');
  await mkdir(directory, { recursive: true });
  const flags = [...mode, '--quiet', '--window=0', '--depth=4095', '--delta-base-offset', '--threads=1'];
  if (options.partialClone) flags.push('--missing=allow-promisor');
  await git.run(['pack-objects', ...flags, join(directory, 'pack')], {
    input: `${lines.join('\n')}\n`,
    // Git begins a pack in its object directory: that must be ours.
    env: ownObjects(options.scratchDir, options.objectsPath),
    // A commit graph would show parents beyond the boundary.
    config: ['pack.compression=0', 'core.commitGraph=false', 'pack.writeReverseIndex=false'],
  });
  const names = (await readdir(directory)).filter((name) =>
    /^pack-[0-9a-f]+\.(pack|idx)$/.test(bytePath(name)),
  );
  // Git finds a pack by its index: that comes after it.
  const packs = names.sort().reverse();
  const files: GitFile[] = packs.map((name) => ({
    path: `objects/pack/${name}`,
    hostPath: join(directory, name),
  }));
  if (!options.partialClone) return files;
  const promised = packs.filter((name) => name.endsWith('.pack'));
  return [
    ...promised.map((name) => ({
      path: `objects/pack/${name.replace(/\.pack$/, '.promisor')}`,
      content: '',
    })),
    ...files,
  ];
}
