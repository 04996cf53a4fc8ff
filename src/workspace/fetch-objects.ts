/** Fetches objects for a host repository into a directory of their own, from which they are taken over whole. */

import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { createTempDir } from '../host/drafts.ts';
import { fileError, listDir, readTextFile, syncDir, temporaryPath } from '../host/files.ts';
import { noteOutside, removeUnused } from '../host/outside.ts';
import type { HostGit } from './git.ts';
import { quotedPath } from './git-objects.ts';

export interface FetchObjectsOptions {
  /** A git address: `banger::NAME:PATH`. */
  readonly address: string;
  /** The directory that holds git-remote-banger. */
  readonly helperDir: string;
  /** The guest's ref, in full, or HEAD. */
  readonly source: string;
  /** Of the host's repository. */
  readonly objectsPath: string;
  readonly config: readonly string[];
  readonly scratchDir: string;
}

/** What came, while the repository does not have it yet. */
export interface Fetched {
  readonly commit: string;
  /** With this git sees the objects. */
  readonly env: Readonly<Record<string, string>>;
}

const MAX_FETCH_HEAD_BYTES = 64 * 1024;
const SETTINGS = ['fetch.fsckObjects=true', 'fetch.unpackLimit=1', 'fetch.writeCommitGraph=false'];
const FLAGS = ['--no-tags', '--no-auto-maintenance', '--no-prune', '--no-recurse-submodules', '--refmap='];
/** In this order a reader that finds an index finds its pack, too. */
const PARTS = ['.pack', '.rev', '.idx'];

/**
 * @param check may refuse what came, by an error
 * @returns the commit; afterwards the repository has all of it, and no name for it
 * @throws {BangerError} `guest_failed`, `no_space`, `permission`, `cancelled`, and what `check` throws
 */
export async function fetchObjects(
  git: HostGit,
  options: FetchObjectsOptions,
  check: (fetched: Fetched) => Promise<void>,
): Promise<string> {
  const { objectsPath, scratchDir } = options;
  const quarantine = temporaryPath(join(objectsPath, 'banger'));
  await using _note = await noteOutside(scratchDir, quarantine);
  await using scratch = await createTempDir(scratchDir, 'fetch');
  try {
    await mkdir(quarantine, { mode: 0o700 });
    const env = {
      GIT_OBJECT_DIRECTORY: quarantine,
      GIT_ALTERNATE_OBJECT_DIRECTORIES: quotedPath(objectsPath),
    };
    const commit = await fetch(git, options, env, scratch.dir);
    await check({ commit, env });
    await takeOver(join(quarantine, 'pack'), join(objectsPath, 'pack'));
    return commit;
  } catch (error) {
    throw error instanceof Error && 'syscall' in error
      ? fileError(`cannot write to ${objectsPath}`, error)
      : error;
  } finally {
    await removeUnused(quarantine, objectsPath);
  }
}

/** As from another working tree of the repository (gitrepository-layout(5), commondir): FETCH_HEAD is a working tree's own. */
async function fetch(
  git: HostGit,
  { address, helperDir, source, config }: FetchObjectsOptions,
  objects: Fetched['env'],
  gitDir: string,
): Promise<string> {
  const common = await git.run(['rev-parse', '--path-format=absolute', '--git-common-dir']);
  await writeFile(join(gitDir, 'commondir'), common.stdout);
  await writeFile(join(gitDir, 'HEAD'), 'ref: refs/heads/none\n');
  const env = {
    ...objects,
    GIT_DIR: gitDir,
    GIT_ALLOW_PROTOCOL: 'banger',
    PATH: `${helperDir}:${process.env['PATH'] ?? ''}`,
  };
  const fetched = await git.run(['fetch', ...FLAGS, address, source], {
    env,
    config: [...SETTINGS, ...config],
    okStatuses: [0, 1, 128],
  });
  const head = (await readTextFile(join(gitDir, 'FETCH_HEAD'), MAX_FETCH_HEAD_BYTES)) ?? '';
  const commit = /^([0-9a-f]{40}|[0-9a-f]{64})\t/.exec(head)?.[1];
  if (fetched.status === 0 && commit !== undefined) return commit;
  throw refusal(fetched.stderr.trim());
}

function refusal(words: string): BangerError {
  if (/shallow roots are not allowed|did not send all necessary objects/.test(words)) {
    return new BangerError(
      'guest_failed',
      'the history in the VM begins at commits that this repository does not have',
      { hint: 'give a clone of the repository that was copied' },
    );
  }
  const last = words.split('\n').slice(-3).join('\n');
  if (/no space left on device/i.test(words))
    return new BangerError('no_space', `no room for the commits: ${last}`, {
      hint: 'df -h shows what is full',
    });
  return new BangerError('guest_failed', `git cannot fetch from the VM: ${last}`);
}

/** Packs have their content's name: one that is there already is the same. */
async function takeOver(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  const names = await listDir(from);
  for (const part of PARTS) {
    for (const name of names.filter((one) => one.startsWith('pack-') && one.endsWith(part)))
      await rename(join(from, name), join(to, name));
  }
  await syncDir(to);
}
