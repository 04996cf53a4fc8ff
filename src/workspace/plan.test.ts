import assert from 'node:assert/strict';
import { mkdirSync, realpathSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  gitIn,
  initRepo,
  plan,
  repoAt,
  runner,
  smallRepo,
  temporaryDir,
} from '../../test/helpers/host-repo.ts';
import { BangerError } from '../core/errors.ts';
import type { CommandRunner } from '../host/runner.ts';

/** Matches a refusal by its message; every refusal must also say what to do next. */
function refusal(message: RegExp) {
  return (error: unknown): boolean => {
    assert(error instanceof BangerError, String(error));
    assert.equal(error.code, 'bad_request');
    assert.match(error.message, message);
    return true;
  };
}

test('lists tracked files as they are, and counts what stays behind', async (t) => {
  const repo = await smallRepo(t);
  const head = (await repo.git('rev-parse', 'HEAD')).trim();
  repo.write('.gitignore', 'ignored\n');
  await repo.git('add', '.gitignore');
  repo.write('ignored', 'secret');
  repo.write('.env', 'secret');
  repo.write('new/untracked.txt');
  repo.write('readme.md', 'changed, longer\n');
  unlinkSync(join(repo.dir, 'run.sh'));
  const planned = await plan(repo.dir);
  assert.deepEqual(planned.displayPaths, ['.gitignore', 'readme.md', 'src/main.ts']);
  assert.equal(planned.files, 3);
  assert.equal(planned.bytes, 8 + 16 + 11);
  assert.equal(planned.untrackedLeft, 2);
  assert.equal(planned.headCommit, head);
  assert.equal(planned.branch, 'main');
  assert.equal(planned.sourcePath, realpathSync(repo.dir));
});

test('adds untracked files when asked, never ignored ones nor nested repositories', async (t) => {
  const repo = await smallRepo(t);
  repo.write('.gitignore', 'ignored\n');
  repo.write('ignored', 'secret');
  repo.write('new/untracked.txt');
  await initRepo(join(repo.dir, 'nested'));
  await repoAt(join(repo.dir, 'nested')).commit();
  const planned = await plan(repo.dir, { includeUntracked: true });
  assert.deepEqual(planned.displayPaths.toSorted(), [
    '.gitignore',
    'new/untracked.txt',
    'readme.md',
    'run.sh',
    'src/main.ts',
  ]);
  assert.equal(planned.untrackedLeft, 1);
});

test('a directory below the top means the whole repository, also through a symbolic link', async (t) => {
  const repo = await smallRepo(t);
  const link = join(await temporaryDir(t), 'link');
  symlinkSync(join(repo.dir, 'src'), link);
  for (const path of [join(repo.dir, 'src'), link]) {
    const planned = await plan(path);
    assert.equal(planned.sourcePath, realpathSync(repo.dir));
    assert.equal(planned.files, 3);
  }
});

test('refuses what is not the directory of a repository', async (t) => {
  const dir = await temporaryDir(t);
  writeFileSync(join(dir, 'file'), '');
  await assert.rejects(plan(join(dir, 'missing')), refusal(/does not exist/));
  await assert.rejects(plan(join(dir, 'file')), refusal(/is not a directory/));
  await assert.rejects(plan(dir), refusal(/not in a git repository/));
  await assert.rejects(plan('relative'), refusal(/not absolute/));
});

test('refuses bare repositories and the inside of .git', async (t) => {
  const repo = await smallRepo(t);
  const bare = join(await temporaryDir(t), 'bare.git');
  await gitIn(repo.dir, 'clone', '--quiet', '--bare', repo.dir, bare);
  await assert.rejects(plan(bare), refusal(/bare repository/));
  await assert.rejects(plan(join(repo.dir, '.git')), refusal(/inside a \.git directory/));
});

test('refuses a repository without a commit', async (t) => {
  const repo = await initRepo(join(await temporaryDir(t), 'repo'));
  repo.write('file');
  await repo.git('add', 'file');
  await assert.rejects(plan(repo.dir), refusal(/has no commit yet/));
});

test('refuses a damaged repository with the words of git', async (t) => {
  const repo = await smallRepo(t);
  writeFileSync(join(repo.dir, '.git/config'), '[core\n');
  await assert.rejects(plan(repo.dir), refusal(/cannot read .*bad config line/));
});

test('refuses a repository of another owner and says how to trust it', async (t) => {
  const repo = await smallRepo(t);
  const asStranger: CommandRunner = {
    run: (argv, options) =>
      runner.run(argv, { ...options, env: { ...options?.env, GIT_TEST_ASSUME_DIFFERENT_OWNER: '1' } }),
  };
  await assert.rejects(plan(repo.dir, { runner: asStranger }), (error: BangerError) => {
    assert.match(error.hint ?? '', /safe\.directory/);
    return refusal(/another user owns it/)(error);
  });
});

test('refuses submodules, committed or only added', async (t) => {
  const repo = await smallRepo(t);
  const sub = await smallRepo(t);
  await repo.git('submodule', '--quiet', 'add', sub.dir, 'vendor/sub');
  await assert.rejects(plan(repo.dir), refusal(/has submodules: vendor\/sub/));
  assert.equal((await plan(join(repo.dir, 'vendor/sub'))).files, 3, 'a submodule itself can be shipped');
  await repo.commit();
  await repo.git('rm', '--quiet', '--cached', 'vendor/sub');
  await assert.rejects(plan(repo.dir), refusal(/has submodules/));
  await repo.git('branch', 'with-submodule');
  await repo.git('rm', '--quiet', '--cached', '.gitmodules');
  rmSync(join(repo.dir, '.gitmodules'));
  rmSync(join(repo.dir, 'vendor'), { recursive: true });
  await repo.commit();
  assert.equal((await plan(repo.dir)).files, 3);
  await assert.rejects(
    plan(repo.dir, { branch: 'b', from: 'with-submodule' }),
    refusal(/has submodules: vendor/),
  );
});

test('the empty .gitmodules that the last submodule leaves is no reason to refuse', async (t) => {
  const repo = await smallRepo(t);
  repo.write('.gitmodules', '');
  await repo.commit();
  assert.equal((await plan(repo.dir)).files, 4);
});

test('refuses a repository whose settings put its files elsewhere', async (t) => {
  const repo = await smallRepo(t);
  const outer = join(repo.dir, '..');
  await repo.git('config', 'core.worktree', outer);
  await assert.rejects(plan(repo.dir), refusal(/keeps its files elsewhere/));
});

test('knows branches, detached heads and linked working trees', async (t) => {
  const repo = await smallRepo(t);
  const first = (await repo.git('rev-parse', 'HEAD')).trim();
  repo.write('second');
  const second = await repo.commit();
  const linked = join(await temporaryDir(t), 'linked');
  await repo.git('worktree', 'add', '--quiet', '-b', 'topic/a', linked, first);
  const ofLinked = await plan(linked);
  assert.deepEqual([ofLinked.branch, ofLinked.headCommit, ofLinked.files], ['topic/a', first, 3]);
  await repo.git('checkout', '--quiet', '--detach');
  const detached = await plan(repo.dir);
  assert.deepEqual([detached.branch, detached.headCommit], [null, second]);
});

test('--branch names the branch, --from its start', async (t) => {
  const repo = await smallRepo(t);
  const first = (await repo.git('rev-parse', 'HEAD')).trim();
  repo.write('second');
  const second = await repo.commit();
  repo.write('third');
  await repo.git('add', '.');
  const here = await plan(repo.dir, { branch: 'work' });
  assert.deepEqual([here.branch, here.headCommit, here.files], ['work', second, 5]);
  const same = await plan(repo.dir, { branch: 'work', from: 'main' });
  assert.deepEqual(same.displayPaths, here.displayPaths);
  const there = await plan(repo.dir, { branch: 'work', from: 'HEAD~1' });
  assert.deepEqual([there.branch, there.headCommit, there.files], ['work', first, 3]);
  assert.deepEqual(there.displayPaths, ['readme.md', 'run.sh', 'src/main.ts']);
  assert.equal(there.bytes, 6 + 10 + 11);
});

test('refuses branch names and starts that are none', async (t) => {
  const repo = await smallRepo(t);
  await assert.rejects(plan(repo.dir, { from: 'main' }), refusal(/--from needs --branch/));
  for (const branch of ['-x', 'HEAD', 'a..b', 'a b', '', 'x.lock', 'a~1']) {
    await assert.rejects(plan(repo.dir, { branch }), refusal(/is not a branch name/), branch);
  }
  for (const from of ['nowhere', '--all', 'HEAD:readme.md', '']) {
    await assert.rejects(plan(repo.dir, { branch: 'b', from }), refusal(/no such commit/), from);
  }
  repo.write('second');
  await repo.commit();
  await assert.rejects(
    plan(repo.dir, { branch: 'b', from: 'HEAD~1', includeUntracked: true }),
    refusal(/--include-untracked/),
  );
});

test('what became a directory or lies behind a symbolic link counts as deleted', async (t) => {
  const repo = await smallRepo(t);
  rmSync(join(repo.dir, 'src'), { recursive: true });
  mkdirSync(join(repo.dir, 'elsewhere'));
  writeFileSync(join(repo.dir, 'elsewhere/main.ts'), 'not tracked');
  symlinkSync('elsewhere', join(repo.dir, 'src'));
  unlinkSync(join(repo.dir, 'run.sh'));
  mkdirSync(join(repo.dir, 'run.sh'));
  assert.deepEqual((await plan(repo.dir)).displayPaths, ['readme.md']);
});

test('shows names that are not UTF-8 with escapes', async (t) => {
  const repo = await smallRepo(t);
  writeFileSync(Buffer.concat([Buffer.from(`${repo.dir}/caf`), Buffer.from([0xe9])]), '');
  repo.write('ünïcode');
  await repo.commit();
  const paths = (await plan(repo.dir)).displayPaths;
  assert(paths.includes('caf\\xe9'));
  assert(paths.includes('ünïcode'));
});

test('ignores what the environment says about git, and runs nothing the repository names', async (t) => {
  const repo = await smallRepo(t);
  const marker = join(await temporaryDir(t), 'ran');
  await repo.git('config', 'core.fsmonitor', `touch ${marker}; false`);
  await repo.git('config', 'filter.evil.clean', `touch ${marker}; cat`);
  repo.write('.git/info/attributes', '* filter=evil\n');
  repo.write('readme.md', 'olleh\n');
  process.env['GIT_DIR'] = '/nonexistent';
  t.after(() => delete process.env['GIT_DIR']);
  assert.equal((await plan(repo.dir)).files, 3);
  assert.throws(() => unlinkSync(marker), { code: 'ENOENT' });
});

test('git missing is a dependency to install', async (t) => {
  const repo = await smallRepo(t);
  const path = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  t.after(() => {
    process.env['PATH'] = path;
  });
  await assert.rejects(plan(repo.dir), {
    code: 'dependency_missing',
    hint: 'sudo apt-get install --yes git',
  });
  process.env['PATH'] = path;
});

test('stops when cancelled', async (t) => {
  const repo = await smallRepo(t);
  await assert.rejects(plan(repo.dir, { signal: AbortSignal.abort() }), { code: 'cancelled' });
});
