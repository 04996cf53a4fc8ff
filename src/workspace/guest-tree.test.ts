import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { initRepo, smallRepo, type TestRepo, temporaryDir } from '../../test/helpers/host-repo.ts';
import { gitFingerprint, LocalGuest } from '../../test/helpers/local-guest.ts';
import { type GuestTree, type GuestTreeOptions, withGuestTree } from './guest-tree.ts';

interface Arranged extends GuestTreeOptions {
  readonly programs: LocalGuest;
  readonly scratchPath: string;
}

async function arrange(t: TestContext, repo: TestRepo, base?: string): Promise<Arranged> {
  return {
    path: repo.dir,
    programs: new LocalGuest(),
    signal: new AbortController().signal,
    base: base ?? (await repo.git('rev-parse', 'HEAD')).trim(),
    scratchPath: join(await temporaryDir(t), 'scratch'),
  };
}

async function within<T>(
  options: Arranged,
  repo: TestRepo,
  work: (tree: GuestTree) => Promise<T>,
): Promise<T> {
  const before = gitFingerprint(repo.dir);
  const result = await withGuestTree(options, work);
  assert.deepEqual(gitFingerprint(repo.dir), before, 'index and refs are as they were');
  assert(!existsSync(options.scratchPath), 'the scratch files are gone');
  return result;
}

/** `kind path` of each change since the base, and the tree's oid. */
async function look(t: TestContext, repo: TestRepo, base?: string): Promise<[string[], string]> {
  const options = await arrange(t, repo, base);
  return await within(options, repo, async (tree) => [
    (await tree.changesSince(options.base)).map(({ kind, path }) => `${kind} ${path}`),
    await tree.write(),
  ]);
}

/** The tree that adding everything and committing it would make, by the slow way: in a clone of the files. */
async function treeByHand(t: TestContext, repo: TestRepo): Promise<string> {
  const copy = join(await temporaryDir(t), 'copy');
  execFileSync('cp', ['-a', repo.dir, copy]);
  const git = (...args: string[]): string => execFileSync('git', ['-C', copy, ...args], { encoding: 'utf8' });
  unlinkSync(join(copy, '.git', 'index'));
  git('read-tree', 'HEAD');
  git('-c', 'core.safecrlf=false', 'add', '--all');
  return git('write-tree').trim();
}

test('edits, additions, deletions, renames, modes, links and commits, all in one tree', async (t) => {
  const repo = await smallRepo(t);
  repo.write('.gitignore', 'ignored\n');
  repo.write('gone');
  repo.write('link-to-be');
  const base = await repo.commit();
  repo.write('committed ünï\nname', 'in the guest\n');
  await repo.commit();
  repo.write('readme.md', 'edited, longer\n');
  repo.write('ignored');
  repo.write('untracked', Buffer.from([0, 1, 2, 255]));
  repo.write('staged');
  await repo.git('add', 'staged');
  repo.write('staged', 'and edited again\n');
  unlinkSync(join(repo.dir, 'gone'));
  renameSync(join(repo.dir, 'src/main.ts'), join(repo.dir, 'src/renamed.ts'));
  chmodSync(join(repo.dir, 'run.sh'), 0o644);
  unlinkSync(join(repo.dir, 'link-to-be'));
  symlinkSync('readme.md', join(repo.dir, 'link-to-be'));
  const [changes, tree] = await look(t, repo, base);
  assert.deepEqual(changes.toSorted(), [
    'added committed \xc3\xbcn\xc3\xaf\nname',
    'added src/renamed.ts',
    'added staged',
    'added untracked',
    'deleted gone',
    'deleted src/main.ts',
    'modified readme.md',
    'modified run.sh',
    'type_changed link-to-be',
  ]);
  assert.equal(tree, await treeByHand(t, repo));
  const options = await arrange(t, repo, base);
  const entries = await within(options, repo, (there) => there.entries());
  assert.deepEqual([...entries.keys()].toSorted(), [
    '.gitignore',
    'committed \xc3\xbcn\xc3\xaf\nname',
    'link-to-be',
    'readme.md',
    'run.sh',
    'src/renamed.ts',
    'staged',
    'untracked',
  ]);
  assert.equal(entries.get('link-to-be')?.mode, 0o120000);
  assert.equal(entries.get('run.sh')?.mode, 0o100644);
  const untracked = (await repo.git('hash-object', 'untracked')).trim();
  assert.deepEqual(entries.get('untracked'), { mode: 0o100644, oid: untracked });
});

test('nothing changed: no change, and the tree of the commit', async (t) => {
  const repo = await smallRepo(t);
  assert.deepEqual(await look(t, repo), [[], (await repo.git('rev-parse', 'HEAD^{tree}')).trim()]);
});

test('what the index hides is looked at', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('update-index', '--assume-unchanged', 'readme.md');
  await repo.git('update-index', '--skip-worktree', 'run.sh', 'src/main.ts');
  repo.write('readme.md', 'hidden\n');
  repo.write('run.sh', 'hidden, too\n', 0o755);
  // Left out by a sparse checkout: not there, and not deleted.
  unlinkSync(join(repo.dir, 'src/main.ts'));
  assert.deepEqual((await look(t, repo))[0], ['modified readme.md', 'modified run.sh']);
});

test('a change in the second in which the index was written is seen', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('config', 'core.checkStat', 'minimal');
  await repo.git('config', 'core.trustctime', 'false');
  const second = Math.floor(Date.now() / 1000) - 100;
  const setTime = (path: string): void => utimesSync(join(repo.dir, path), second, second);
  setTime('readme.md');
  await repo.git('update-index', '--refresh');
  repo.write('readme.md', 'HELLO\n');
  setTime('readme.md');
  setTime('.git/index');
  assert.deepEqual((await look(t, repo))[0], ['modified readme.md']);
});

test('a merge in progress, a detached head, an index that is gone, a branch without a commit', async (t) => {
  const repo = await smallRepo(t);
  const base = (await repo.git('rev-parse', 'HEAD')).trim();
  await repo.git('checkout', '--quiet', '-b', 'other');
  repo.write('readme.md', 'theirs\n');
  await repo.commit();
  await repo.git('checkout', '--quiet', '--detach', 'main');
  repo.write('readme.md', 'ours\n');
  await repo.commit();
  await repo.git('merge', '--quiet', 'other').catch(() => undefined);
  assert.match(await repo.git('status', '--porcelain'), /^UU/);
  assert.deepEqual((await look(t, repo, base))[0], ['modified readme.md']);
  unlinkSync(join(repo.dir, '.git/index'));
  assert.deepEqual((await look(t, repo, base))[0], ['modified readme.md']);
  await repo.git('symbolic-ref', 'HEAD', 'refs/heads/fresh');
  assert.deepEqual((await look(t, repo, base))[0], ['modified readme.md']);
});

test('repositories inside it are left out and named, with or without commits', async (t) => {
  const repo = await smallRepo(t);
  const inner = await initRepo(join(repo.dir, 'vendor/inner'));
  inner.write('file');
  await inner.commit();
  await initRepo(join(repo.dir, 'begun'));
  repo.write('new');
  const options = await arrange(t, repo);
  await within(options, repo, async (tree) => {
    assert.deepEqual(tree.nested, ['begun', 'vendor/inner']);
    assert.deepEqual(
      (await tree.changesSince(options.base)).map(({ path }) => path),
      ['new'],
    );
  });
});

test('a split index and a shared repository below an odd path', async (t) => {
  const repo = await initRepo(join(await temporaryDir(t), 'a:b"c\\d ü'));
  repo.write('one');
  repo.write('two');
  await repo.commit();
  await repo.git('update-index', '--split-index');
  repo.write('two', 'changed\n');
  await repo.git('add', 'two');
  // So many that git would begin another shared index.
  for (let number = 0; number < 20; number += 1) repo.write(`more/${number}`);
  const options = await arrange(t, repo);
  const names = (): string[] => readdirSync(join(repo.dir, '.git')).toSorted();
  const before = names();
  await withGuestTree(options, async (tree) => {
    assert.deepEqual(
      (await tree.changesSince(options.base, true))
        .filter(({ path }) => !path.startsWith('more/'))
        .map(({ path, insertions, deletions }) => [path, insertions, deletions]),
      [['two', 1, 1]],
    );
  });
  assert.deepEqual(names(), before);
});

test('no repository, a damaged one, one that moved up: an error that says so, and nothing is left', async (t) => {
  const repo = await smallRepo(t);
  const options = await arrange(t, repo);
  const refused = async (pattern: RegExp): Promise<void> => {
    await assert.rejects(
      withGuestTree(options, async () => undefined),
      { code: 'guest_failed', message: pattern },
    );
    assert(!existsSync(options.scratchPath));
  };
  writeFileSync(join(repo.dir, '.git/index'), 'damaged');
  await refused(/index file smaller than expected/);
  rmSync(join(repo.dir, '.git/HEAD'));
  await refused(/not a usable git repository: not a git repository/);
  rmSync(join(repo.dir, '.git'), { recursive: true });
  await refused(/not a usable git repository/);
  await initRepo(join(repo.dir, '..'));
  await refused(/not the top of one/);
});

test('a file that cannot be read is an error that names it, not a file that is left out', async (t) => {
  const repo = await smallRepo(t);
  const options = await arrange(t, repo);
  repo.write('huge', 'x');
  // Root reads everything: git itself is kept from it.
  const run = options.programs.run.bind(options.programs);
  options.programs.run = async (program, limits) => {
    const isAdd = program.argv.includes('add');
    const result = await run(
      isAdd ? { ...program, argv: ['git', 'update-index', '--refresh'] } : program,
      limits,
    );
    return isAdd
      ? { ...result, status: 1, stderr: Buffer.from('error: unable to index file huge\n') }
      : result;
  };
  await assert.rejects(
    withGuestTree(options, async () => undefined),
    { code: 'guest_failed', message: /cannot read huge.*unable to index file/ },
  );
});

test('what an interrupted call left is swept, and one that is cancelled at any step leaves nothing', async (t) => {
  const repo = await smallRepo(t);
  repo.write('new');
  const options = await arrange(t, repo);
  const work = async (tree: GuestTree): Promise<void> => {
    await tree.changesSince(options.base);
    await tree.write();
  };
  mkdirSync(join(options.scratchPath, 'of-an-earlier-one'), { recursive: true });
  await within(options, repo, work);
  const calls = options.programs.calls.length;
  for (let step = 0; step < calls - 1; step += 1) {
    const controller = new AbortController();
    const programs = new LocalGuest();
    programs.onRun = () => {
      if (programs.calls.length === step + 1) controller.abort();
    };
    const cancelled = withGuestTree({ ...options, programs, signal: controller.signal }, work);
    await assert.rejects(cancelled, { code: 'cancelled' }, `step ${step}`);
    assert(!existsSync(options.scratchPath), `step ${step}`);
  }
  assert.deepEqual(calls, 7, options.programs.calls.join('\n'));
});
