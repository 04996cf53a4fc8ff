/**
 * What repositories are, where their HEAD is and how git is set up for them: asked once, and true as long as none of the files
 * that said so has changed.
 */

import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { HostGit } from './git.ts';
import { parseGitSettings } from './guest-git-config.ts';
import { isObjectFormat } from './repo.ts';
import type { RepoState } from './repo-state.ts';

interface Answer {
  readonly repo: RepoState;
  /** All that the answer can depend on; some do not exist. */
  readonly paths: readonly string[];
}

interface Known {
  readonly repo: RepoState;
  /** By path, of each file; empty: there is none. */
  readonly stamps: ReadonlyMap<string, string>;
}

const MAX_KNOWN = 64;
/** Of the question in `ask`. */
const ANSWERS = 11;
/** The kernel gives files times that are some milliseconds old, and a file system may round them to seconds. */
const QUIET_MS = 2000;
/** Settings in files that others name are not followed here. */
const INCLUDES = /^include(?:if\..*)?\.path$/s;

export class KnownRepos {
  readonly #known = new Map<string, Known>();
  readonly #env: NodeJS.ProcessEnv;
  readonly #quietMs: number;

  constructor(env: NodeJS.ProcessEnv, quietMs = QUIET_MS) {
    this.#env = env;
    this.#quietMs = quietMs;
  }

  /**
   * Without the checks that a repository which is met for the first time needs (`findRepo`). Undefined: git does not answer as it
   * does for a usual one with a commit.
   * @param git runs in `path`
   * @throws {BangerError} what git throws
   */
  async get(git: HostGit, path: string): Promise<RepoState | undefined> {
    const known = this.#known.get(path);
    if (known !== undefined && (await isAsBefore(known))) return known.repo;
    this.#known.delete(path);
    const begunMs = Date.now();
    const answer = await ask(git, path, this.#env);
    const kept = answer && (await unchangedSince(answer, begunMs - this.#quietMs));
    if (kept !== undefined) this.#keep(path, kept);
    return answer?.repo;
  }

  #keep(path: string, known: Known): void {
    const oldest = this.#known.size < MAX_KNOWN ? undefined : this.#known.keys().next().value;
    if (oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(path, known);
  }
}

async function isAsBefore({ stamps }: Known): Promise<boolean> {
  const same = await Promise.all(
    [...stamps].map(async ([path, before]) => (await stampOf(path)).stamp === before),
  );
  return same.every(Boolean);
}

/** Undefined: something may have changed while git was asked, or can change elsewhere. */
async function unchangedSince({ repo, paths }: Answer, sinceMs: number): Promise<Known | undefined> {
  if ([...repo.settings.keys()].some((name) => INCLUDES.test(name))) return undefined;
  const stamps = new Map<string, string>();
  for (const path of paths) {
    const { stamp, changedMs } = await stampOf(path);
    if (changedMs > sinceMs) return undefined;
    stamps.set(path, stamp);
  }
  const head = (await readFile(paths[0] ?? '', 'utf8').catch(() => '')).trimEnd();
  // A name may stand for another name.
  const isPlain = head === (repo.branch === null ? repo.headCommit : `ref: refs/heads/${repo.branch}`);
  return isPlain ? { repo, stamps } : undefined;
}

async function stampOf(path: string): Promise<{ readonly stamp: string; readonly changedMs: number }> {
  try {
    const { ino, size, mtimeNs, ctimeNs, ctimeMs } = await stat(path, { bigint: true });
    return { stamp: `${ino}:${size}:${mtimeNs}:${ctimeNs}`, changedMs: Number(ctimeMs) };
  } catch {
    return { stamp: '', changedMs: 0 };
  }
}

async function ask(git: HostGit, path: string, env: NodeJS.ProcessEnv): Promise<Answer | undefined> {
  const [answered, listed] = await Promise.all([
    git.run(
      ['rev-parse', '--path-format=absolute', '--show-object-format', '--show-toplevel']
        .concat(
          ['index', 'shallow', 'objects', 'HEAD', 'refs/heads', 'packed-refs', 'config'].flatMap(gitPath),
        )
        .concat(['HEAD', '--symbolic-full-name', 'HEAD']),
      { okStatuses: [0, 128] },
    ),
    git.run(['config', '-z', '--list', '--show-origin']),
  ]);
  const lines = answered.stdout.toString('utf8').split('\n');
  if (answered.status !== 0 || lines.length !== ANSWERS + 1) return undefined;
  const [objectFormat, topLevel = '', indexPath = '', shallowPath = '', objectsPath = ''] = lines;
  const [headPath = '', branchesPath = '', packedPath = '', configPath = ''] = lines.slice(5);
  const [headCommit = '', ref = ''] = lines.slice(9);
  if (!isObjectFormat(objectFormat)) return undefined;
  const branch = ref.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : null;
  const { settings, files } = withOrigins(listed.stdout);
  const refs = [packedPath, join(branchesPath, '..', '..', 'reftable', 'tables.list')];
  if (branch !== null) refs.push(join(branchesPath, branch));
  const configs = [configPath, `${headPath.slice(0, -'HEAD'.length)}config.worktree`, ...commonConfigs(env)];
  return {
    repo: { objectFormat, topLevel, indexPath, shallowPath, objectsPath, headCommit, branch, settings },
    paths: [headPath, ...refs, ...new Set([...configs, ...files.map((file) => resolve(path, file))])],
  };
}

function gitPath(name: string): string[] {
  return ['--git-path', name];
}

/** Where git looks for settings that are not a repository's own (git-config(1), FILES). */
function commonConfigs(env: NodeJS.ProcessEnv): string[] {
  const home = env['HOME'] ?? homedir();
  return [
    env['GIT_CONFIG_SYSTEM'] ?? '/etc/gitconfig',
    env['GIT_CONFIG_GLOBAL'] ?? join(home, '.gitconfig'),
    join(env['XDG_CONFIG_HOME'] ?? join(home, '.config'), 'git', 'config'),
  ];
}

/** `<origin>\0<name>\n<value>\0`; the origin of a file is `file:<path>`. */
function withOrigins(listing: Buffer): Pick<RepoState, 'settings'> & { readonly files: readonly string[] } {
  const items = listing.toString('utf8').split('\0');
  const origins = items.filter((_, at) => at % 2 === 0 && at + 1 < items.length);
  const files = origins.flatMap((origin) => (origin.startsWith('file:') ? origin.slice('file:'.length) : []));
  const settings = parseGitSettings(Buffer.from(items.filter((_, at) => at % 2 === 1).join('\0')));
  return { settings, files: [...new Set(files)] };
}
