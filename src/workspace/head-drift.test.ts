import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runner, smallRepo } from '../../test/helpers/host-repo.ts';
import { hostGit } from './git.ts';
import { headDrift } from './head-drift.ts';

const { signal } = new AbortController();

test('commits made and left since are counted', async (t) => {
  const repo = await smallRepo(t);
  const git = hostGit(runner, repo.dir, signal);
  const first = (await repo.git('rev-parse', 'HEAD')).trim();
  assert.equal(await headDrift(git, first, null), null);
  await repo.commit('second');
  const third = await repo.commit('third\x1b[31m, the last');
  const expected = { recorded: first, current: third, subject: 'third?[31m, the last', behind: 2, ahead: 0 };
  assert.deepEqual(await headDrift(git, first, null), expected);
  assert.equal(await headDrift(git, first, first), null);
  assert.equal((await headDrift(git, first, 'main'))?.behind, 2);
  await repo.git('reset', '--quiet', '--hard', 'HEAD~1');
  assert.deepEqual(
    [(await headDrift(git, third, null))?.behind, (await headDrift(git, third, null))?.ahead],
    [0, 1],
  );
});

test('a commit that is gone, and a repository that is', async (t) => {
  const repo = await smallRepo(t);
  const git = hostGit(runner, repo.dir, signal);
  const drift = await headDrift(git, 'a'.repeat(40), null);
  assert.deepEqual([drift?.behind, drift?.ahead], [null, null]);
  await assert.rejects(headDrift(hostGit(runner, `${repo.dir}/gone`, signal), 'a'.repeat(40), null), {
    code: 'io_error',
  });
});
