/**
 * The guest's working tree as it is, committed or not, as git objects: computed in the guest in a scratch index with a scratch
 * object directory, so that its own index, refs and objects stay as they are.
 */

import { randomBytes } from 'node:crypto';
import { BangerError } from '../core/errors.ts';
import { type BytePath, bytesOf, displayPath, isSafePath } from './byte-path.ts';
import { quotedPath } from './git-objects.ts';
import {
  type GuestGitOptions,
  type GuestRepo,
  guestGit,
  guestGitFailed,
  lastWords,
} from './guest-git-runner.ts';
import type { GuestProgramResult } from './guest-programs.ts';
import { GITLINK_MODE } from './index-entries.ts';
import { parseGuestIndex } from './guest-index.ts';
import { type CountedChange, MAX_CHANGES_BYTES, parseGuestChanges, type TreeEntry } from './tree-change.ts';

/** On the root disk; whoever looks at a copy has its turn alone, and everything in it is its own. */
export const GUEST_SCRATCH_PATH = '/var/lib/banger/workspace-git';

const CLEANUP_TIMEOUT_MS = 10_000;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;
/** A repository inside this one that was not cloned but only begun: git cannot add it, and need not. */
const EMBEDDED = /embedded git repository|does not have a commit checked out/;

export interface GuestTreeOptions extends GuestRepo {
  /** The commit or tree that the copy was made from: nested repositories are told by their not being in it. */
  readonly base: string;
  /** The base may have submodules: their commits count as they are there. */
  readonly hasSubmodules?: boolean;
  readonly scratchPath?: string;
}

/** The guest's files as they were when it was made. Good until the work it was given to has ended. */
export interface GuestTree {
  /** Git in the guest with the scratch index and its objects. */
  git(args: readonly string[], options?: GuestGitOptions): Promise<GuestProgramResult>;
  /** How the files differ from a commit or tree. `numbers`: with how many lines of each. */
  changesSince(base: string, numbers?: boolean): Promise<readonly CountedChange[]>;
  /** All of them, by path. */
  entries(): Promise<ReadonlyMap<BytePath, TreeEntry>>;
  /** Their tree, written to the scratch objects. */
  write(): Promise<string>;
  /** Repositories inside this one that git sees as one thing each, and submodules at another commit: they are not part of it. */
  readonly nested: readonly BytePath[];
}

/**
 * Runs `work` with the tree and removes the scratch files, also those that an interrupted call left. What the index marks as
 * assumed unchanged is looked at like everything else; that a file's time and size are those in the index counts as
 * unchanged, as for git.
 * @throws {BangerError} `dependency_missing` (no git in the guest), `guest_failed` (no repository there any more, or a damaged
 *   one), `no_space`, and as GuestPrograms
 */
export async function withGuestTree<T>(
  options: GuestTreeOptions,
  work: (tree: GuestTree) => Promise<T>,
): Promise<T> {
  const scratchPath = options.scratchPath ?? GUEST_SCRATCH_PATH;
  const [facts, assumed] = await Promise.all([findGuestRepo(options), assumedUnchanged(options)]);
  const dir = `${scratchPath}/${randomBytes(8).toString('hex')}`;
  const env = {
    GIT_INDEX_FILE: `${dir}/index`,
    GIT_OBJECT_DIRECTORY: dir,
    GIT_ALTERNATE_OBJECT_DIRECTORIES: quotedPath(facts.objectsPath),
  };
  const git: GuestTree['git'] = (args, more = {}) =>
    guestGit(options, args, { ...more, env: { ...env, ...more.env } });
  try {
    await copyIndex(options, facts.indexPath, dir, git);
    if (assumed.length > 0) await forAll(git, ['update-index', '-z', '--no-assume-unchanged'], assumed);
    const nested = await addAll(options, git);
    return await work({
      git,
      nested,
      changesSince: changesWith(git),
      entries: () => entriesOf(git),
      write: () => writeTree(git),
    });
  } finally {
    await removeScratch(options, scratchPath);
  }
}

interface GuestRepoFacts {
  readonly indexPath: string;
  readonly objectsPath: string;
}

async function findGuestRepo(repo: GuestRepo): Promise<GuestRepoFacts> {
  const found = await guestGit(
    repo,
    ['rev-parse', '--path-format=absolute', '--is-inside-work-tree']
      .concat(['--git-path', 'index', '--git-path', 'objects', '--show-toplevel'])
      .concat(['--show-cdup']),
    { okStatuses: [0, 128] },
  );
  const lines = found.stdout.toString('utf8').split('\n');
  const [inside, indexPath, objectsPath, , up] = lines;
  const absolute = indexPath?.startsWith('/') === true && objectsPath?.startsWith('/') === true;
  if (found.status === 0 && inside === 'true' && up === '' && lines.length === 6 && absolute) {
    return { indexPath, objectsPath };
  }
  const why = found.status === 0 ? 'the directory is not the top of one' : lastWords(found.stderr);
  throw new BangerError('guest_failed', `${repo.path} in the VM is not a usable git repository: ${why}`, {
    hint: 'its files can still be fetched: banger vm exec NAME -- tar c -C DIRECTORY . > files.tar',
  });
}

/** Entries that git would not look at. `git ls-files -v` writes their letter small. */
async function assumedUnchanged(repo: GuestRepo): Promise<BytePath[]> {
  const listed = await guestGit(repo, ['ls-files', '-z', '-v'], {
    okStatuses: [0, 128],
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  // What is wrong is said by whoever asks for the repository itself, or by the next who reads the index.
  if (listed.status !== 0) return [];
  return listed.stdout
    .toString('latin1')
    .split('\0')
    .filter((line) => /^[a-z] /.test(line))
    .map((line) => line.slice(2));
}

/** With its time, by which git tells which entries it must not trust. */
async function copyIndex(
  repo: GuestTreeOptions,
  indexPath: string,
  dir: string,
  git: GuestTree['git'],
): Promise<void> {
  const limits = { signal: repo.signal, timeoutMs: 60_000, maxOutputBytes: 4096 };
  const env = { LC_ALL: 'C' };
  const copy = ['install', '-D', '-p', '-m', '600', indexPath, `${dir}/index`] as const;
  const copied = await repo.programs.run({ argv: [...copy], cwd: '/', env }, limits);
  if (copied.status === 0) return;
  if (!/no such file/i.test(copied.stderr.toString('latin1'))) throw guestGitFailed(repo, copied);
  // An index that was removed: what is committed is known, and nothing else.
  const made = await repo.programs.run({ argv: ['install', '-d', dir], cwd: '/', env }, limits);
  if (made.status !== 0) throw guestGitFailed(repo, made);
  const head = await git(['read-tree', 'HEAD'], { okStatuses: [0, 128] });
  if (head.status !== 0) await git(['read-tree', repo.base]);
}

/** @returns nested repositories, which are left out */
async function addAll(options: GuestTreeOptions, git: GuestTree['git']): Promise<readonly BytePath[]> {
  const added = await git(['add', '--all', '--sparse', '--ignore-errors', '.'], { okStatuses: [0, 1] });
  const nested = new Set<BytePath>();
  if (added.status !== 0) for (const path of await leftBehind(options, git, added)) nested.add(path);
  if (EMBEDDED.test(added.stderr.toString('latin1'))) {
    const changes = await changesWith(git)(options.base);
    const links = changes.filter(({ from, to }) => to?.mode === GITLINK_MODE && from === null);
    for (const { path } of links) nested.add(path);
    const paths = links.map(({ path }) => path);
    if (paths.length > 0) await forAll(git, ['update-index', '-z', '--force-remove'], paths);
  }
  if (options.hasSubmodules === true) {
    const moved = (await changesWith(git)(options.base)).filter(
      ({ from, to }) => from?.mode === GITLINK_MODE && to?.mode === GITLINK_MODE,
    );
    for (const { path } of moved) nested.add(path);
    // The host may not have the commit that it is at now.
    const lines = moved.map(({ from, path }) => `160000 ${from?.oid}\t${path}\0`);
    if (lines.length > 0)
      await git(['update-index', '-z', '--index-info'], { input: bytesOf(lines.join('')) });
  }
  return [...nested].sort();
}

/** Repositories without a commit are all that may be left when git could not add everything. @throws {BangerError} `guest_failed` */
async function leftBehind(
  repo: GuestRepo,
  git: GuestTree['git'],
  added: GuestProgramResult,
): Promise<readonly BytePath[]> {
  const listed = await git(['ls-files', '-z', '--modified', '--others', '--exclude-standard'], {
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  const paths = listed.stdout.toString('latin1').split('\0').slice(0, -1);
  const file = paths.find((path) => !path.endsWith('/'));
  if (file === undefined) return paths.map((path) => path.slice(0, -1));
  const cause = guestGitFailed(repo, added);
  throw new BangerError(cause.code, `git in the VM cannot read ${displayPath(file)}: ${cause.message}`, {
    cause,
    ...(cause.hint !== undefined && { hint: cause.hint }),
  });
}

function changesWith(git: GuestTree['git']): GuestTree['changesSince'] {
  return async (base, numbers = false) => {
    const format = numbers ? ['--raw', '--numstat'] : ['--raw'];
    const flags = ['--cached', ...format, '-z', '--no-abbrev', '--no-renames', '--no-textconv'];
    const listed = await git(['diff-index', ...flags, '--no-ext-diff', base], {
      maxOutputBytes: MAX_CHANGES_BYTES,
    });
    return parseGuestChanges(listed.stdout);
  };
}

async function entriesOf(git: GuestTree['git']): Promise<ReadonlyMap<BytePath, TreeEntry>> {
  const listed = await git(['ls-files', '-z', '--stage'], { maxOutputBytes: MAX_LISTING_BYTES });
  return new Map(parseGuestIndex(listed.stdout).map(({ path, mode, oid }) => [path, { mode, oid }]));
}

async function writeTree(git: GuestTree['git']): Promise<string> {
  const { stdout } = await git(['write-tree']);
  const oid = stdout.toString('latin1').trim();
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(oid)) return oid;
  throw new BangerError('guest_failed', 'git in the VM names a tree in an unknown form');
}

async function forAll(
  git: GuestTree['git'],
  args: readonly string[],
  paths: readonly BytePath[],
): Promise<void> {
  const safe = paths.filter(isSafePath);
  await git([...args, '--stdin'], { input: bytesOf(safe.map((path) => `${path}\0`).join('')) });
}

/** Best effort, also when the work was given up: what stays is removed by the next. */
async function removeScratch({ programs }: GuestRepo, path: string): Promise<void> {
  await programs
    .run(
      { argv: ['rm', '-rf', '--', path], cwd: '/', env: { LC_ALL: 'C' } },
      {
        signal: AbortSignal.timeout(CLEANUP_TIMEOUT_MS),
        timeoutMs: CLEANUP_TIMEOUT_MS,
        maxOutputBytes: 4096,
      },
    )
    .catch(() => undefined);
}
