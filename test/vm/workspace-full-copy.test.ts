/** `--mode full_copy`: all history and the submodules, made, brought up to date and taken out again. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type {
  WorkspaceApplied,
  WorkspaceExported,
  WorkspacePrepared,
  WorkspaceStatus,
} from '../../src/api/results/workspace.ts';
import { initRepo, type TestRepo, treeOf } from '../helpers/host-repo.ts';
import { isAlive, ROOT, settled, TestHome } from '../helpers/test-home.ts';

const COMMITS = 12;
const LARGE_BYTES = 12 * 1024 * 1024;
/** What the host's and the guest's git must agree on. */
const QUESTIONS = [
  ['status', '--porcelain=v2', '--untracked-files=no'],
  ['rev-parse', 'HEAD'],
  ['for-each-ref', '--format=%(objectname) %(refname)', 'refs/heads', 'refs/tags'],
  ['log', '--format=%H', '--branches'],
  ['diff', '--submodule=short'],
];

describe('a full copy', () => {
  let home: TestHome;
  let repo: TestRepo;
  let lib: TestRepo;
  const git = (dir: string, ...args: readonly string[]): string =>
    execFileSync('git', ['-C', dir, '-c', 'protocol.file.allow=always', ...args], {
      env: { ...home.env, PATH: `${join(ROOT, 'bin')}:${process.env['PATH']}`, GIT_CONFIG_NOSYSTEM: '1' },
      encoding: 'utf8',
      stdio: 'pipe',
    }).trimEnd();
  before(async () => {
    home = TestHome.warm();
    const origin = await initRepo(join(home.dir, 'lib'));
    for (let number = 0; number < COMMITS; number += 1) {
      origin.write('lib.txt', `${number}\n`);
      await origin.commit(`lib ${number}`);
    }
    repo = await initRepo(join(home.dir, 'project'));
    for (let number = 0; number < COMMITS; number += 1) {
      repo.write('top.txt', `${number}\n`);
      await repo.commit(`top ${number}`);
    }
    await repo.git('branch', 'old', 'HEAD~11');
    await repo.git('tag', '-a', 'v1', '-m', 'one', 'HEAD~2');
    repo.write('.gitignore', '.env\n');
    repo.write('large', Buffer.alloc(LARGE_BYTES, 'x'));
    await repo.git('submodule', '--quiet', 'add', origin.dir, 'vendor/lib');
    await repo.git('submodule', '--quiet', 'add', origin.dir, 'not-cloned');
    await repo.commit('with submodules');
    await repo.git('submodule', '--quiet', 'deinit', '--force', 'not-cloned');
    await repo.git('remote', 'add', 'origin', 'https://me:hunter2@example.com/x');
    repo.write('.env', 'SECRET=hunter2\n');
    repo.write('vendor/lib/.env', 'SECRET=hunter2\n');
    repo.write('top.txt', 'not committed\n');
    const { dir } = repo;
    lib = {
      ...repo,
      dir: join(dir, 'vendor/lib'),
      write: (path, text) => repo.write(`vendor/lib/${path}`, text),
    };
    for (const [name, value] of [
      ['name', 'Test'],
      ['email', 'test@example.com'],
    ] as const)
      git(lib.dir, 'config', `user.${name}`, value);
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  const inGuest = (script: string): Promise<string> => home.guest('dev', 'sh', '-c', script);
  const prepare = (...flags: string[]) =>
    home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev', ...flags]);
  const submodules = (text: string): string => text.replaceAll(/ \([^)]*\)$/gm, '');
  const guestTree = async (): Promise<Map<string, string>> => {
    const dir = join(home.dir, 'seen');
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const { stdout } = await home.run(['vm', 'exec', 'dev', '--', 'tar', 'c', '--exclude=.git', '.']);
    execFileSync('tar', ['x', '-C', dir], { input: stdout });
    return treeOf(dir);
  };
  const hostTree = (): Map<string, string> => {
    const tree = treeOf(repo.dir);
    for (const path of ['.env', 'vendor/lib/.env', 'vendor/lib/.git']) tree.delete(path);
    return tree;
  };
  /** What is in both, as their own git sees it. */
  const assertSame = async (): Promise<void> => {
    const answers = async (sh: (script: string) => Promise<string>): Promise<string[]> => {
      const asked = QUESTIONS.map((args) => `git ${args.join(' ').replaceAll(/[%(]\S+/g, "'$&'")}`);
      const script = [...asked, 'git submodule status', 'cd vendor/lib', ...asked].join('; echo ---; ');
      return submodules(await sh(script)).split('---\n');
    };
    const here = await answers(async (script) =>
      execFileSync('sh', ['-c', script], { cwd: repo.dir, encoding: 'utf8', env: home.env }).trimEnd(),
    );
    assert.deepEqual(await answers(inGuest), here);
    assert.deepEqual(await guestTree(), hostTree());
  };
  const left = (): Promise<string> => inGuest('cd /root; find . -name ".banger*" -o -name repo');

  test('nothing is left of one that was cut off', async () => {
    const args = ['vm', 'workspace', 'prepare', 'dev', repo.dir, '--mode', 'full_copy'];
    const begun = (): Promise<void> => settled(async () => (await left()) !== '');
    const cancelled = home.start(args);
    await begun();
    cancelled.child.kill('SIGINT');
    assert.notEqual((await cancelled.done).status, 0);
    await settled(async () => (await left()) === '');
    const killed = home.start(args);
    await begun();
    const pid = await home.daemonPid();
    process.kill(pid, 'SIGKILL');
    await settled(() => !isAlive(pid));
    await killed.done;
    assert.doesNotMatch(await left(), /^\.\/repo$/m, 'nothing has its name');
    assert.equal((await home.show('dev')).workspace, null);
  });

  test('it has the files, the history and the submodules as they are', async () => {
    const done = await prepare(repo.dir, '--mode', 'full_copy');
    assert.deepEqual([done.outcome, done.files], ['created', 5]);
    assert.equal(await left(), './repo');
    await assertSame();
    assert.equal(await inGuest('git rev-list --count HEAD; ls -A not-cloned'), String(COMMITS + 1));
    assert.equal(await inGuest('grep -rl hunter2 /root/repo || true'), '');
    const { workspace } = await home.show('dev');
    assert.deepEqual(
      [workspace?.mode, workspace?.submodules.map(({ path }) => path)],
      ['full_copy', ['vendor/lib']],
    );
    assert.equal((await prepare()).outcome, 'unchanged');
    const other = await home.run(['vm', 'workspace', 'prepare', 'dev', '--mode', 'shallow_overlay']);
    assert.match(other.stderr, /has a copy of .*, a full copy; .*cannot change/);
  });

  test('what changed here is sent, in the submodules too', async () => {
    lib.write('lib.txt', 'another commit\n');
    lib.write('new.txt', 'new\n');
    git(lib.dir, 'add', 'lib.txt', 'new.txt');
    git(lib.dir, 'commit', '--quiet', '-m', 'in the submodule');
    await repo.git('add', 'vendor/lib', 'top.txt');
    await repo.git('commit', '--quiet', '-m', 'moved');
    lib.write('lib.txt', 'not committed\n');
    repo.write('top.txt', 'again\n');
    const status = await home.json<WorkspaceStatus>(['vm', 'workspace', 'status', 'dev']);
    assert.deepEqual(
      status.files.map(({ path, here, there }) => [path, here, there]),
      [
        ['top.txt', 'modified', null],
        ['vendor/lib', 'modified', null],
        ['vendor/lib/lib.txt', 'modified', null],
        ['vendor/lib/new.txt', 'added', null],
      ],
    );
    await prepare();
    await assertSame();
    assert.equal((await prepare()).outcome, 'unchanged');
    // Back to a commit that the copy is not on the way to: its history stays whole.
    await repo.git('stash', '--quiet');
    await repo.git('switch', '--quiet', 'old');
    await prepare();
    assert.equal(
      await inGuest('git log --format=%s; test ! -e .git/shallow && ls -A'),
      'top 0\n.git\ntop.txt\nvendor',
    );
    await repo.git('switch', '--quiet', 'main');
    await repo.git('stash', 'pop', '--quiet');
    await prepare();
    await assertSame();
  });

  test('what both changed in a submodule keeps everything from being written', async () => {
    await inGuest('echo guest > vendor/lib/lib.txt; echo own > own');
    lib.write('lib.txt', 'host\n');
    repo.write('top.txt', 'host\n');
    const { status, stderr } = await home.run(['vm', 'workspace', 'prepare', 'dev']);
    assert.equal(status, 1);
    assert.match(stderr, /in the submodule vendor\/lib: changed both here and in VM "dev": lib\.txt/);
    assert.equal(await inGuest('cat top.txt vendor/lib/lib.txt'), 'again\nguest');
    const patch = join(home.dir, 'saved.patch');
    const unsaved = await home.run(['vm', 'workspace', 'prepare', 'dev', '--save-patch', patch]);
    assert.match(unsaved.stderr, /in the submodule vendor\/lib: changed both/, 'the patch is without it');
    assert.match(unsaved.stderr, /git -C \S*lib fetch banger::dev:\/root\/repo\/vendor\/lib HEAD/);
    assert(!existsSync(patch), 'nothing was overwritten that would have to be kept');
    await assert.rejects(prepare('--dry-run'), /in the submodule vendor\/lib: changed both/);
    assert.equal(await inGuest('cat vendor/lib/lib.txt own && rm own'), 'guest\nown');
    await prepare('--force');
    await assertSame();
    await inGuest('cd vendor/lib; git -c user.name=G -c user.email=g@example.com commit -qam guest');
    lib.write('lib.txt', 'host again\n');
    git(lib.dir, 'add', 'lib.txt');
    assert.match(
      (await home.run(['vm', 'workspace', 'prepare', 'dev'])).stderr,
      /in the submodule vendor\/lib: commits were made/,
    );
    await prepare('--force');
    await assertSame();
    assert.match(await inGuest('cd vendor/lib; git for-each-ref'), /refs\/banger\/overwritten/);
  });

  test('what was moved onto another file there is not overwritten', async () => {
    await inGuest('cp -a .gitignore kept; mv .gitignore top.txt; mv kept .gitignore');
    repo.write('top.txt', 'here\n');
    const { status, stderr } = await home.run(['vm', 'workspace', 'prepare', 'dev']);
    assert.equal(status, 1);
    assert.match(stderr, /changed both here and in VM "dev": top\.txt$/m);
    assert.equal(await inGuest('cat top.txt'), '.env');
    await prepare('--force');
    await assertSame();
  });

  test('what the guest changed comes out; what it changed in a submodule is told', async () => {
    await inGuest(`
      set -e; git config user.name G; git config user.email g@example.com
      echo guest > added; git add added; git commit -qm 'in the guest'
      cd vendor/lib; git config user.name G; git config user.email g@example.com
      echo guest > added; git add added; git commit -qm 'in the submodule'; echo more > lib.txt
    `);
    const exported = await home.json<WorkspaceExported>(['vm', 'workspace', 'export', 'dev', '--stat']);
    assert.deepEqual(exported.nested, ['vendor/lib']);
    const since = ['vm', 'workspace', 'export', 'dev', '--since-prepare'];
    const patch = await home.ok(since);
    assert.match(patch, /^diff --git a\/added b\/added\n/);
    assert.doesNotMatch(patch, /vendor/);
    const status = await home.json<WorkspaceStatus>(['vm', 'workspace', 'status', 'dev']);
    assert.deepEqual(
      status.files.flatMap(({ path, there }) => (there === null ? [] : `${path} ${there}`)),
      ['added added', 'vendor/lib/added added', 'vendor/lib/lib.txt modified'],
    );
    const applied = await home.json<WorkspaceApplied>(['vm', 'workspace', 'export', 'dev', '--apply']);
    assert.deepEqual(
      [applied.applied, applied.changes.map(({ path }) => path), applied.nested],
      [true, ['added'], ['vendor/lib']],
    );
    assert.equal(readFileSync(join(repo.dir, 'added'), 'utf8'), 'guest\n');
    await home.ok(['vm', 'workspace', 'export', 'dev', '--branch', 'from-dev']);
    assert.equal(git(repo.dir, 'log', '-1', '--format=%s', 'from-dev'), 'in the guest');
    git(lib.dir, 'fetch', '--quiet', 'banger::dev:/root/repo/vendor/lib', 'HEAD');
    assert.equal(git(lib.dir, 'log', '-1', '--format=%s', 'FETCH_HEAD'), 'in the submodule');
    git(home.dir, 'clone', '--quiet', 'banger::dev', 'cloned');
    assert.equal(git(join(home.dir, 'cloned'), 'rev-list', '--count', 'HEAD'), String(COMMITS + 3));
  });

  test('it survives a restart; a submodule that came since is refused', async () => {
    const before = await guestTree();
    await home.ok(['vm', 'restart', 'dev']);
    assert.deepEqual(await guestTree(), before);
    await repo.git('submodule', '--quiet', 'update', '--init', 'not-cloned');
    const refused = await home.run(['vm', 'workspace', 'prepare', 'dev']);
    assert.match(refused.stderr, /not-cloned is a submodule that the copy has not\n.*--mode full_copy/);
    assert.deepEqual(readdirSync(join(home.dir, 'state', 'scratch')), []);
  });

  test('vm run makes one, and names it where it refuses submodules', async () => {
    writeFileSync(join(repo.dir, '.git/hooks/post-checkout'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const refused = await home.run(['vm', 'run', repo.dir]);
    assert.match(refused.stderr, /has submodules.*\n.*--mode full_copy/);
    const both = await home.run(['vm', 'run', repo.dir, '--mode', 'full_copy', '--readonly']);
    assert.match(both.stderr, /cannot be read-only/);
    const args = ['vm', 'run', '--rm', '--mode', 'full_copy', repo.dir, '--', 'sh', '-c'];
    const seen = await home.ok([...args, 'git submodule status && ls .git/hooks 2>&1 | wc -l']);
    assert.equal(submodules(seen), `${submodules(git(repo.dir, 'submodule', 'status'))}\n1\n`);
  });
});
