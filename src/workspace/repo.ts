/** Finds the repository that a path lies in, and refuses what cannot be shipped. */

import { access, constants, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';
import type { RunResult } from '../host/runner.ts';
import type { HostGit } from './git.ts';

export type ObjectFormat = 'sha1' | 'sha256';

export interface RepoFacts {
  /** Top of the working tree, absolute, without symbolic links. */
  readonly topLevel: string;
  readonly objectFormat: ObjectFormat;
  readonly indexPath: string;
  /** Lists the commits whose parents are absent, in a shallow repository. */
  readonly shallowPath: string;
  /** The object store; of a linked working tree, the main one's. */
  readonly objectsPath: string;
}

const FORMATS: readonly string[] = ['sha1', 'sha256'] satisfies readonly ObjectFormat[];
/** Lines that the question in `findRepo` is answered with. */
const ANSWERS = 8;
const RUN_WITHOUT = 'for a VM without a copy of a repository: banger vm run';

/** @throws {BangerError} `bad_request`: missing, not a directory, unreadable */
export async function checkDirectory(path: string): Promise<void> {
  if (!isAbsolute(path)) throw new BangerError('bad_request', `the path ${path} is not absolute`);
  try {
    const found = await stat(path);
    if (!found.isDirectory()) {
      throw new BangerError('bad_request', `${path} is not a directory`, {
        hint: 'give the directory of a git repository',
      });
    }
    await access(path, constants.R_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof BangerError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const reason =
      code === 'ENOENT' || code === 'ENOTDIR'
        ? 'does not exist'
        : `cannot be read: ${systemReason(error) ?? code}`;
    throw new BangerError('bad_request', `${path} ${reason}`, { cause: error });
  }
}

/**
 * A path below the top of a repository means the whole repository, as it does to git itself.
 * @throws {BangerError} `bad_request`: no repository, bare, inside `.git`, of another owner, damaged
 */
export async function findRepo(git: HostGit, path: string): Promise<RepoFacts> {
  const found = await git.run(
    ['rev-parse', '--path-format=absolute', '--is-bare-repository', '--is-inside-git-dir']
      .concat(['--show-object-format', '--git-path', 'index', '--git-path', 'shallow'])
      .concat(['--git-path', 'objects'])
      .concat(['--absolute-git-dir', '--show-toplevel']),
    { okStatuses: [0, 128] },
  );
  const text = found.stdout.toString('utf8');
  const lines = text.split('\n');
  const [bare, insideGitDir, format, indexPath, shallowPath, objectsPath, gitDir, topLevel] = lines;
  if (bare === 'true') {
    throw new BangerError('bad_request', `${path} is a bare repository: it has no files to ship`, {
      hint: 'git clone it, and give the clone',
    });
  }
  if (insideGitDir === 'true') {
    throw new BangerError('bad_request', `${path} lies inside a .git directory`, {
      hint: 'give the directory that holds the files',
    });
  }
  if (found.status !== 0) throw refusal(path, found);
  if (lines.length !== ANSWERS + 1 || !Buffer.from(text, 'utf8').equals(found.stdout)) {
    throw new BangerError(
      'bad_request',
      `the path of the repository at ${path} is not one line of UTF-8 text`,
    );
  }
  if (!isObjectFormat(format)) {
    throw new BangerError('unsupported', `the repository at ${path} stores objects as ${format}`);
  }
  const facts = {
    topLevel: topLevel ?? '',
    objectFormat: format,
    indexPath: indexPath ?? '',
    shallowPath: shallowPath ?? '',
    objectsPath: objectsPath ?? '',
  };
  await checkTopLevel(git, path, facts.topLevel, gitDir ?? '');
  return facts;
}

export function isObjectFormat(text: string | undefined): text is ObjectFormat {
  return text !== undefined && FORMATS.includes(text);
}

/** `core.worktree` can point anywhere, also at a home directory: only a tree that has this repository's `.git` is shipped. */
async function checkTopLevel(git: HostGit, path: string, topLevel: string, gitDir: string): Promise<void> {
  const own = await git.run(['rev-parse', '--resolve-git-dir', join(topLevel, '.git')], {
    okStatuses: [0, 128],
  });
  const ownDir = own.stdout.toString('utf8').trimEnd();
  try {
    if (own.status === 0 && (await realpath(ownDir)) === (await realpath(gitDir))) return;
  } catch {
    // Said below.
  }
  throw new BangerError('bad_request', `the repository at ${path} keeps its files elsewhere (${topLevel})`, {
    hint: 'its core.worktree setting points there; clone it without',
  });
}

function refusal(path: string, found: RunResult): BangerError {
  const words = found.stderr.trim();
  if (words.includes('dubious ownership')) {
    return new BangerError('bad_request', `git refuses the repository at ${path}: another user owns it`, {
      hint: `if you trust it: git config --global --add safe.directory '${path}'`,
    });
  }
  if (words.includes('not a git repository')) {
    return new BangerError('bad_request', `${path} is not in a git repository`, {
      hint: `git init and commit there, or ${RUN_WITHOUT}`,
    });
  }
  const lastLine =
    words
      .split('\n')
      .at(-1)
      ?.replace(/^fatal: /, '') ?? '';
  return new BangerError('bad_request', `git cannot read the repository at ${path}: ${lastLine}`, {
    hint: `git -C '${path}' status says more`,
  });
}
