/** The submodules of a working tree: which are there with a repository of their own, and that it is theirs. */

import { lstatSync, type Stats } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { type BytePath, bytePath, bytesOf, displayPath, isSafePath } from './byte-path.ts';
import type { HostGit } from './git.ts';
import { type GitSettings, parseGitSettings } from './guest-git-config.ts';
import { GITLINK_MODE, readIndexEntries } from './index-entries.ts';
import { findRepo, type RepoFacts } from './repo.ts';

/** A submodule that has been cloned into its place. */
export interface Submodule {
  /** Below the repository that has it. UTF-8 text. */
  readonly path: string;
  /** As .gitmodules calls it; its git directory is `modules/<name>` in that of the repository that has it. */
  readonly name: string;
}

export interface Submodules {
  readonly cloned: readonly Submodule[];
  /** A directory, and nothing in it that is copied. */
  readonly empty: readonly BytePath[];
}

type OwnFacts = Pick<RepoFacts, 'topLevel' | 'indexPath' | 'objectsPath'>;

/** In one repository. */
const MAX_SUBMODULES = 500;
/** A submodule's submodules and so on. */
const MAX_DEPTH = 16;
const CONTROL = /[\x00-\x1f\x7f]/;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * @param links paths that the index has a commit at
 * @throws {BangerError} `bad_request`: a name or a path that must not become a directory in a guest; a symbolic link in the
 *   place of `.git`
 */
export async function findSubmodules(
  git: HostGit,
  topLevel: string,
  links: readonly BytePath[],
): Promise<Submodules> {
  const cloned: Submodule[] = [];
  const empty: BytePath[] = [];
  if (links.length === 0) return { cloned, empty };
  const names = await namesByPath(git, topLevel);
  for (const path of new Set(links)) {
    if (!isDirectoryOfTree(topLevel, path)) continue;
    const own = look(topLevel, `${path}/.git`);
    if (own === undefined) empty.push(path);
    else if (own.isFile() || own.isDirectory())
      cloned.push({ path: textOf(path), name: nameFor(path, names) });
    else throw refused(path, 'its .git is neither a file nor a directory');
  }
  assertApart(cloned);
  return { cloned, empty };
}

/** As git itself looks for them: only in a regular file. Of a path named twice the first one counts. */
async function namesByPath(git: HostGit, topLevel: string): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>();
  if (look(topLevel, '.gitmodules')?.isFile() !== true) return names;
  const args = ['config', '--file', join(topLevel, '.gitmodules'), '-z', '--no-includes', '--list'];
  const listed = await git.run(args, { okStatuses: [0, 1, 128] });
  for (const [key, values] of parseGitSettings(listed.stdout)) {
    const name = /^submodule\.(.+)\.path$/s.exec(key)?.[1];
    const path = values.at(-1);
    if (name !== undefined && path !== undefined && !names.has(path)) names.set(path, name);
  }
  return names;
}

/** A repository that was added without .gitmodules is called by its path. */
function nameFor(path: BytePath, names: ReadonlyMap<string, string>): string {
  const text = textOf(path);
  const name = names.get(text) ?? text;
  const isSafe = isSafePath(bytePath(name)) && !CONTROL.test(name) && !name.split('\\').includes('..');
  if (!isSafe) throw refused(path, `its name is not allowed: ${JSON.stringify(name)}`);
  return name;
}

function textOf(path: BytePath): string {
  try {
    const text = utf8.decode(bytesOf(path));
    if (!CONTROL.test(text)) return text;
  } catch {
    // Said below.
  }
  throw refused(path, 'its path is not plain UTF-8 text');
}

/** The git directory of one must not lie inside another's, or be the same. */
function assertApart(found: readonly Submodule[]): void {
  const byName = new Map(found.map((one) => [one.name, one]));
  if (byName.size !== found.length) {
    const twice = found.find((one) => byName.get(one.name) !== one);
    if (twice !== undefined) throw refused(bytePath(twice.path), `another one is called ${twice.name}, too`);
  }
  for (const { name, path } of found) {
    const above = name.split('/').slice(0, -1);
    for (let length = 1; length <= above.length; length += 1) {
      const other = byName.get(above.slice(0, length).join('/'));
      if (other === undefined) continue;
      throw refused(bytePath(path), `its name, ${name}, lies inside that of ${other.path}, ${other.name}`);
    }
  }
}

/** A directory, and none of those above it a symbolic link. */
function isDirectoryOfTree(topLevel: string, path: BytePath): boolean {
  const parts = path.split('/');
  return parts.every((_, at) => look(topLevel, parts.slice(0, at + 1).join('/'))?.isDirectory() === true);
}

function look(topLevel: string, path: BytePath): Stats | undefined {
  try {
    return lstatSync(bytesOf(`${bytePath(topLevel)}/${path}`), { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** A submodule of a repository, or of one of its submodules. */
export interface ClonedSubmodule {
  /** Below the top. */
  readonly path: string;
  /** Where a copy has its git directory, below that of the top: `modules/<name>/modules/<name>`. */
  readonly gitDir: string;
}

/** Those inside others too, each behind the one it is in. @throws {BangerError} as `findSubmodules`, `findRepo`, `assertOwn` */
export async function clonedSubmodules(
  above: RepoFacts,
  gitAt: (dir: string) => HostGit,
  inside: ClonedSubmodule & { readonly depth: number } = { path: '', gitDir: '', depth: 0 },
): Promise<ClonedSubmodule[]> {
  const git = gitAt(above.topLevel);
  const links = (await readIndexEntries(git)).filter(({ mode }) => mode === GITLINK_MODE);
  const paths = links.map(({ path }) => path);
  const { cloned } = await findSubmodules(git, above.topLevel, paths);
  assertFew(above.topLevel, cloned.length, inside.depth);
  const found: ClonedSubmodule[] = [];
  for (const { path, name } of cloned) {
    const topLevel = join(above.topLevel, path);
    const repo = await findRepo(gitAt(topLevel), topLevel);
    await assertOwn(above, path, repo);
    const own = { path: join(inside.path, path), gitDir: join(inside.gitDir, 'modules', name) };
    found.push(own, ...(await clonedSubmodules(repo, gitAt, { ...own, depth: inside.depth + 1 })));
  }
  return found;
}

/** @param depth of the repository that has them: 0 for the top @throws {BangerError} `limit_exceeded` */
export function assertFew(topLevel: string, count: number, depth: number): void {
  if (count <= MAX_SUBMODULES && (count === 0 || depth < MAX_DEPTH)) return;
  throw new BangerError('limit_exceeded', `the repository at ${topLevel} has too many submodules`, {
    hint: `at most ${MAX_SUBMODULES}, and ${MAX_DEPTH} inside each other`,
  });
}

/**
 * Git follows whatever a submodule's `.git` names: a tree of files from somewhere else could have it name any repository of the
 * user's. What is copied lies in the submodule itself or in the `modules` of the repository that has it.
 * @param sub as git describes the repository at the submodule's path
 * @throws {BangerError} `bad_request`
 */
export async function assertOwn(above: OwnFacts, path: string, sub: OwnFacts): Promise<void> {
  const topLevel = join(above.topLevel, path);
  if (sub.topLevel !== topLevel) throw refused(bytePath(path), `its files are at ${sub.topLevel}`);
  // A `modules` that is a link leads elsewhere: its own way is not resolved, only what it is in.
  const dirsAbove = await Promise.all(gitDirsOf(above).map(resolved));
  const places = [join(topLevel, '.git'), ...dirsAbove.map((dir) => join(dir, 'modules'))];
  for (const dir of [...gitDirsOf(sub), sub.objectsPath]) {
    const real = await resolved(dir);
    const isOwn = places.some((place) => real === place || real.startsWith(`${place}/`));
    if (!isOwn) throw refused(bytePath(path), `its repository is elsewhere: ${real}`);
  }
}

async function resolved(path: string): Promise<string> {
  return await realpath(path).catch(() => path);
}

/** Its own, and the one it shares with other working trees of the same repository. */
function gitDirsOf({ indexPath, objectsPath }: OwnFacts): string[] {
  return [dirname(indexPath), dirname(objectsPath)];
}

function refused(path: BytePath, why: string): BangerError {
  return new BangerError('bad_request', `the submodule ${displayPath(path)} cannot be copied: ${why}`, {
    hint: 'git submodule deinit PATH leaves it out; git clone --recurse-submodules makes a repository without such things',
  });
}

/**
 * Whether git works on a submodule, from the settings of the repository that has it (gitsubmodules(7), "Active submodules").
 * Patterns with wildcards are not understood: then its address decides.
 */
export function isActive(settings: GitSettings, { name, path }: Submodule): boolean {
  const own = settings.get(`submodule.${name}.active`)?.at(-1);
  if (own !== undefined) return !['false', 'no', 'off', '0', ''].includes(own.toLowerCase());
  const isBelow = (pattern: string): boolean =>
    pattern === '.' || path === pattern || path.startsWith(`${pattern.replace(/\/$/, '')}/`);
  if (settings.get('submodule.active')?.some(isBelow) === true) return true;
  return settings.has(`submodule.${name}.url`);
}

/** A `.gitmodules` without sections is what removing the last submodule leaves; one that is gone or unreadable names none. */
export async function declaresSubmodules(git: HostGit, place: string): Promise<boolean> {
  const where = place === '.gitmodules' ? ['--file', place] : ['--blob', place];
  const listed = await git.run(['config', ...where, '-z', '--no-includes', '--name-only', '--list'], {
    okStatuses: [0, 1, 128],
  });
  return listed.stdout.toString('latin1').includes('submodule.');
}

export function hasSubmodules(topLevel: string, path?: string): BangerError {
  const which = path === undefined ? '' : `: ${path}`;
  return new BangerError('bad_request', `the repository at ${topLevel} has submodules${which}`, {
    hint: 'add --mode full_copy to copy them, too; or give a submodule itself',
  });
}
