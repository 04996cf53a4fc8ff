/** The directory mmdebstrap works in: outside the home directory, because the mapped root of a user namespace cannot enter that. */

import { chmod, lstat, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../core/errors.ts';
import { makeTemporaryDir, removeTree } from '../host/files.ts';
import { pidStartTicks } from '../host/proc.ts';
import type { CommandRunner } from '../host/runner.ts';
import { asNoSpace } from './no-space.ts';
import { toolEnv } from './tools.ts';

/** Not /tmp, which is memory on many hosts. */
const PARENT = '/var/tmp';
const CLEAN_TIMEOUT_MS = 2 * 60_000;

export interface BuildSpace extends AsyncDisposable {
  readonly dir: string;
}

/** Makes the directory; releasing it removes it with whatever lies in it, also what belongs to a user namespace's users. */
export async function createBuildSpace(runner: CommandRunner): Promise<BuildSpace> {
  const name = `banger-build-${process.getuid?.() ?? 0}`;
  await sweep(name, runner);
  const dir = await makeTemporaryDir(join(PARENT, name));
  // Passing through, not listing, is what the mapped root needs; a real root needs nothing.
  if (process.getuid?.() !== 0) await chmod(dir, 0o711);
  return { dir, [Symbol.asyncDispose]: () => removeBuildSpace(dir, runner) };
}

/** @throws {BangerError} `no_space` when the file system at `path` has less free than `neededBytes` */
export async function requireFreeSpace(path: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  if (bavail * bsize >= neededBytes) return;
  const mib = (bytes: number) => Math.ceil(bytes / 1024 ** 2);
  throw asNoSpace(path, new Error(`${mib(bavail * bsize)} MiB are free, ${mib(neededBytes)} MiB are needed`));
}

/** Removes what builds of processes that are gone left behind. */
async function sweep(name: string, runner: CommandRunner): Promise<void> {
  const pattern = new RegExp(`^\\.${name}\\.tmp-(\\d+)-(\\d+)-[0-9a-f]{12}$`);
  for (const entry of await readdir(PARENT)) {
    const match = pattern.exec(entry);
    if (match === null || pidStartTicks(Number(match[1])) === Number(match[2])) continue;
    const path = join(PARENT, entry);
    // Anybody can make names in /var/tmp: only a directory of our own is ours to remove.
    const stat = await lstat(path);
    if (stat.isDirectory() && stat.uid === process.getuid?.()) await removeBuildSpace(path, runner);
  }
}

async function removeBuildSpace(dir: string, runner: CommandRunner): Promise<void> {
  if ((await readdir(dir)).length > 0 && process.getuid?.() !== 0) {
    // What a killed mmdebstrap left belongs to subordinate ids, which only root of such a namespace may remove.
    const leftovers = (await readdir(dir)).map((name) => join(dir, name));
    const argv = ['mmdebstrap', '--unshare-helper', 'rm', '-rf', '--', ...leftovers] as const;
    await runner
      .run(argv, { env: toolEnv(), timeoutMs: CLEAN_TIMEOUT_MS, okStatuses: [0, 1, 255, 25] })
      .catch((error) => {
        throw new Error(`cannot clean ${dir}: ${errorText(error)}`, { cause: error });
      });
  }
  await removeTree(dir, { below: PARENT });
}
