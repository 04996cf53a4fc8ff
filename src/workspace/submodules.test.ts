import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gitIn, initRepo, plan, temporaryDir, type TestRepo } from '../../test/helpers/host-repo.ts';
import { isActive } from './submodules.ts';

interface Project {
  readonly dir: string;
  readonly repo: TestRepo;
  /** A repository of the same user's that nobody means to copy. */
  readonly secret: TestRepo;
}

async function project(t: TestContext): Promise<Project> {
  const dir = await temporaryDir(t);
  const secret = await initRepo(join(dir, 'secret'));
  secret.write('secret.txt');
  await secret.commit('secret');
  const lib = await initRepo(join(dir, 'lib'));
  lib.write('lib.txt');
  await lib.commit('lib');
  const repo = await initRepo(join(dir, 'project'));
  repo.write('top.txt');
  await repo.git('submodule', '--quiet', 'add', lib.dir, 'vendor/lib');
  await repo.commit('top');
  return { dir, repo, secret };
}

const copied = (path: string) => plan(path, { submodules: 'copy' });
const names = ({ submodules }: Awaited<ReturnType<typeof copied>>): string[][] =>
  submodules.map(({ name, path }) => [name, path]);

test('a submodule is planned as a repository of its own, and counted', async (t) => {
  const { repo } = await project(t);
  repo.write('vendor/lib/untracked');
  const planned = await copied(repo.dir);
  assert.deepEqual(names(planned), [['vendor/lib', 'vendor/lib']]);
  assert.deepEqual(planned.displayPaths, ['.gitmodules', 'top.txt', 'vendor/lib/lib.txt']);
  assert.deepEqual([planned.files, planned.untrackedLeft], [3, 1]);
  const left = await plan(repo.dir, { submodules: 'leave' });
  assert.deepEqual([left.files, left.submodules, left.emptyDirectories], [2, [], []]);
  await assert.rejects(plan(repo.dir), { hint: /--mode full_copy/ });
});

test('one that was not cloned is an empty directory, one that was removed is nothing', async (t) => {
  const { repo } = await project(t);
  await repo.git('submodule', '--quiet', 'deinit', '--force', 'vendor/lib');
  repo.write('vendor/lib/stray');
  const planned = await copied(repo.dir);
  assert.deepEqual([names(planned), planned.emptyDirectories, planned.files], [[], ['vendor/lib'], 2]);
  rmSync(join(repo.dir, 'vendor'), { recursive: true });
  assert.deepEqual((await copied(repo.dir)).emptyDirectories, []);
});

test('names that lead out of the git directory, or into that of another, are refused', async (t) => {
  const { dir, repo } = await project(t);
  const modules = (name: string): void =>
    repo.write('.gitmodules', `[submodule "${name}"]\n\tpath = vendor/lib\n\turl = x\n`);
  for (const name of [
    '../../../etc',
    'a/../../b',
    '..',
    'a/./b',
    '/root',
    'a//b',
    '.git',
    'x/.GIT/hooks',
    'a\\\\..\\\\b',
  ]) {
    modules(name);
    await assert.rejects(copied(repo.dir), { code: 'bad_request', message: /its name is not allowed/ }, name);
  }
  await repo.git('submodule', '--quiet', 'add', '--name', 'second', join(dir, 'lib'), 'second');
  const both = (one: string, other: string): void =>
    repo.write('.gitmodules', `[submodule "${one}"]\npath=vendor/lib\n[submodule "${other}"]\npath=second\n`);
  both('lib', 'lib/hooks');
  await assert.rejects(copied(repo.dir), /its name, lib\/hooks, lies inside that of vendor\/lib/);
  both('lib', 'second');
  await repo.git('config', '--file', '.gitmodules', 'submodule.second.path', 'elsewhere');
  assert.deepEqual(
    names(await copied(repo.dir)).toSorted(([one = ''], [other = '']) => (one < other ? -1 : 1)),
    [
      ['lib', 'vendor/lib'],
      ['second', 'second'],
    ],
  );
});

test('.gitmodules counts only as a file', async (t) => {
  const { dir, repo } = await project(t);
  renameSync(join(repo.dir, '.gitmodules'), join(dir, 'modules'));
  writeFileSync(join(dir, 'modules'), '[submodule "else"]\npath=vendor/lib\n');
  symlinkSync('../modules', join(repo.dir, '.gitmodules'));
  assert.deepEqual(names(await copied(repo.dir)), [['vendor/lib', 'vendor/lib']]);
});

test('a path through a symbolic link is not followed', async (t) => {
  const { dir, repo, secret } = await project(t);
  rmSync(join(repo.dir, 'vendor'), { recursive: true });
  mkdirSync(join(dir, 'elsewhere'));
  renameSync(secret.dir, join(dir, 'elsewhere/lib'));
  symlinkSync('../elsewhere', join(repo.dir, 'vendor'));
  let planned = await copied(repo.dir);
  assert.deepEqual([planned.submodules, planned.emptyDirectories], [[], []]);
  unlinkSync(join(repo.dir, 'vendor'));
  mkdirSync(join(repo.dir, 'vendor'));
  symlinkSync('../../elsewhere/lib', join(repo.dir, 'vendor/lib'));
  planned = await copied(repo.dir);
  assert.deepEqual(
    [planned.submodules, planned.displayPaths.includes('vendor/lib')],
    [[], true],
    'the link itself',
  );
});

test('a repository of somebody else in the place of a submodule is refused', async (t) => {
  const { dir, repo, secret } = await project(t);
  const own = join(repo.dir, 'vendor/lib/.git');
  const elsewhere = { code: 'bad_request', message: /its repository is elsewhere/ };
  writeFileSync(own, `gitdir: ${secret.dir}/.git\n`);
  await assert.rejects(copied(repo.dir), elsewhere);
  unlinkSync(own);
  symlinkSync(`${secret.dir}/.git`, own);
  await assert.rejects(copied(repo.dir), { message: /its \.git is neither a file nor a directory/ });
  unlinkSync(own);
  const modules = join(repo.dir, '.git/modules');
  const real = join(dir, 'modules');
  writeFileSync(own, 'gitdir: ../../.git/modules/vendor/lib\n');
  await gitIn(join(repo.dir, 'vendor/lib'), 'config', 'core.worktree', join(repo.dir, 'vendor/lib'));
  renameSync(modules, real);
  symlinkSync(real, modules);
  await assert.rejects(copied(repo.dir), elsewhere);
  unlinkSync(modules);
  renameSync(real, modules);
  assert.equal((await copied(repo.dir)).submodules.length, 1);
  writeFileSync(join(modules, 'vendor/lib/commondir'), `${secret.dir}/.git\n`);
  await assert.rejects(copied(repo.dir), elsewhere);
  unlinkSync(join(modules, 'vendor/lib/commondir'));
  await gitIn(join(repo.dir, 'vendor/lib'), 'config', 'core.worktree', secret.dir);
  await assert.rejects(copied(repo.dir), { code: 'bad_request', message: /keeps its files elsewhere/ });
});

test('whether git works on it is what its settings say', () => {
  const of = (settings: Record<string, string[]>): boolean =>
    isActive(new Map(Object.entries(settings)), { name: 'n', path: 'vendor/lib' });
  assert.deepEqual(
    [
      of({}),
      of({ 'submodule.n.url': ['x'] }),
      of({ 'submodule.n.url': ['x'], 'submodule.n.active': ['true', 'false'] }),
      of({ 'submodule.active': ['.'] }),
      of({ 'submodule.active': ['other', 'vendor/'] }),
      of({ 'submodule.active': ['vend'] }),
    ],
    [false, true, false, true, true, false],
  );
});
