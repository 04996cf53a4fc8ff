import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  gitIn,
  plan,
  runner,
  shipAndUnpack,
  smallRepo,
  temporaryDir,
  type TestRepo,
} from '../../test/helpers/host-repo.ts';
import { hostGit } from './git.ts';
import type { WorkingTreeSource } from './plan.ts';
import { workingTreeFacts } from './ship.ts';
import { commitWorkingTree } from './shipped-commit.ts';

/** Ships the working tree; the copy, and what its ref says. */
async function ship(t: TestContext, repo: TestRepo, includeUntracked = false) {
  const guest = await shipAndUnpack(t, await plan(repo.dir, { includeUntracked }));
  const commit = readFileSync(join(guest, '.git/refs/banger/shipped'), 'utf8').trim();
  const files = await gitIn(guest, 'ls-tree', '-r', '-z', '--full-tree', commit);
  return { guest, commit, files };
}

/** As git itself would commit everything that the copy holds. */
async function committedAll(guest: string): Promise<string> {
  const index = { GIT_INDEX_FILE: join(guest, '.git', 'another-index') };
  Object.assign(process.env, index);
  try {
    await gitIn(guest, 'add', '--all');
    return await gitIn(guest, 'ls-tree', '-r', '-z', (await gitIn(guest, 'write-tree')).trim());
  } finally {
    delete process.env['GIT_INDEX_FILE'];
  }
}

test('a clean working tree is shipped as its commit', async (t) => {
  const repo = await smallRepo(t);
  const { guest, commit } = await ship(t, repo);
  assert.equal(commit, (await repo.git('rev-parse', 'HEAD')).trim());
  assert.equal(await gitIn(guest, 'diff', '--stat', 'refs/banger/shipped'), '');
});

test('what is not committed is in a commit of its own, and the repository knows nothing of it', async (t) => {
  const repo = await smallRepo(t);
  repo.write('same.txt');
  await repo.commit();
  repo.write('readme.md', 'changed\n');
  repo.write('staged', 'staged\n');
  await repo.git('add', 'staged');
  repo.write('staged', 'and changed again\n');
  repo.write('intended');
  await repo.git('add', '--intent-to-add', 'intended');
  unlinkSync(join(repo.dir, 'run.sh'));
  rmSync(join(repo.dir, 'src'), { recursive: true });
  symlinkSync('readme.md', join(repo.dir, 'src'));
  repo.write('new ünï\nname');
  for (const includeUntracked of [false, true]) {
    const { guest, commit, files } = await ship(t, repo, includeUntracked);
    assert.equal(files, await committedAll(guest));
    assert.equal(files.includes('new \xc3\xbcn\xc3\xaf\nname'), includeUntracked);
    assert.equal(await gitIn(guest, 'rev-parse', `${commit}^`), await repo.git('rev-parse', 'HEAD'));
    assert.equal(await gitIn(guest, 'rev-list', '--objects', '--quiet', commit), '');
    await assert.rejects(repo.git('cat-file', '-e', commit));
  }
});

test('the same files on the same commit have the same commit', async (t) => {
  const repo = await smallRepo(t);
  repo.write('readme.md', 'changed\n');
  const [first, second] = [await ship(t, repo), await ship(t, repo)];
  assert.equal(first.commit, second.commit);
});

test('what the index hides is shipped as it is; what a sparse checkout left out is not deleted', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('update-index', '--assume-unchanged', 'readme.md');
  await repo.git('update-index', '--skip-worktree', 'run.sh', 'src/main.ts');
  repo.write('readme.md', 'hidden\n');
  repo.write('run.sh', 'hidden, too\n', 0o755);
  unlinkSync(join(repo.dir, 'src/main.ts'));
  const { guest, commit } = await ship(t, repo);
  assert.equal(await gitIn(guest, 'show', `${commit}:readme.md`), 'hidden\n');
  assert.equal(await gitIn(guest, 'show', `${commit}:run.sh`), 'hidden, too\n');
  assert.equal(await gitIn(guest, 'show', `${commit}:src/main.ts`), 'export {};\n');
});

test('a change in the second in which the index was written is in it', async (t) => {
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
  const { guest, commit } = await ship(t, repo);
  assert.equal(await gitIn(guest, 'show', `${commit}:readme.md`), 'HELLO\n');
});

test('files in the place of tracked ones that cannot be shipped count as deleted', async (t) => {
  const repo = await smallRepo(t);
  unlinkSync(join(repo.dir, 'readme.md'));
  execFileSync('mkfifo', [join(repo.dir, 'readme.md')]);
  repo.write('untracked');
  const { guest, files } = await ship(t, repo, true);
  assert.doesNotMatch(files, /readme/);
  assert.equal(files, await committedAll(guest));
});

test('an unresolved merge is shipped with the files as they are', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('checkout', '--quiet', '-b', 'other');
  for (const name of ['readme.md', 'run.sh', 'src/main.ts']) repo.write(name, 'theirs\n');
  await repo.commit();
  await repo.git('checkout', '--quiet', 'main');
  for (const name of ['readme.md', 'run.sh', 'src/main.ts']) repo.write(name, 'ours\n');
  await repo.commit();
  await assert.rejects(repo.git('merge', 'other'));
  unlinkSync(join(repo.dir, 'run.sh'));
  const { guest, files } = await ship(t, repo);
  assert.equal(files, await committedAll(guest));
  assert.match(files, /readme/);
  assert.doesNotMatch(files, /run\.sh/);
});

test('a repository that was copied is not written anew', async (t) => {
  const repo = await smallRepo(t);
  for (let number = 0; number < 100; number += 1) repo.write(`many/${number}`);
  const head = await repo.commit();
  const copy = join(await temporaryDir(t), 'copy');
  execFileSync('cp', ['-R', repo.dir, copy]);
  const scratch = await temporaryDir(t);
  const git = hostGit(runner, copy, new AbortController().signal);
  const planned = await plan(copy);
  const facts = workingTreeFacts(planned, planned.source as WorkingTreeSource);
  assert.equal((await commitWorkingTree(git, facts, scratch)).commit, head);
  assert.deepEqual(readdirSync(join(scratch, 'objects')), []);
});
