import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { runner, smallRepo, temporaryDir, type TestRepo } from '../../test/helpers/host-repo.ts';
import { hostGit, type HostGit } from './git.ts';
import { KnownRepos } from './known-repos.ts';

const NEVER = new AbortController().signal;
/** As long as changes count as fresh here, and a little more. */
const QUIET_MS = 100;
const WAIT_MS = 120;

interface Counted {
  readonly git: HostGit;
  calls: number;
}

function counted(dir: string): Counted {
  const git = hostGit(runner, dir, NEVER);
  const counting: Counted = {
    calls: 0,
    git: {
      run: (args, options) => {
        counting.calls += 1;
        return git.run(args, options);
      },
    },
  };
  return counting;
}

function known(home: string): KnownRepos {
  return new KnownRepos({ HOME: home, GIT_CONFIG_SYSTEM: join(home, 'system') }, QUIET_MS);
}

/** A repository that was quiet for long enough to be kept in mind. */
async function quietRepo(t: TestContext): Promise<{ repo: TestRepo; repos: KnownRepos; home: string }> {
  const repo = await smallRepo(t);
  const home = await temporaryDir(t);
  await delay(WAIT_MS);
  return { repo, repos: known(home), home };
}

test('a quiet repository is asked once', async (t) => {
  const { repo, repos } = await quietRepo(t);
  const counting = counted(repo.dir);
  const first = await repos.get(counting.git, repo.dir);
  const { calls } = counting;
  assert.equal(first?.headCommit, (await repo.git('rev-parse', 'HEAD')).trim());
  assert.equal(first?.topLevel, repo.dir);
  assert.equal(first?.branch, 'main');
  assert.ok(existsSync(first.indexPath) && existsSync(first.objectsPath));
  assert.deepEqual(await repos.get(counting.git, repo.dir), first);
  assert.ok(calls > 0);
  assert.equal(counting.calls, calls);
});

test('a repository that has just changed is asked again, whatever its files say', async (t) => {
  const repo = await smallRepo(t);
  const repos = new KnownRepos({ HOME: await temporaryDir(t) });
  const counting = counted(repo.dir);
  await repos.get(counting.git, repo.dir);
  const { calls } = counting;
  await repos.get(counting.git, repo.dir);
  assert.equal(counting.calls, 2 * calls);
});

test('whatever moves HEAD or changes a setting is seen', async (t) => {
  const { repo, repos, home } = await quietRepo(t);
  const { git } = counted(repo.dir);
  const first = (await repo.git('rev-parse', 'HEAD')).trim();
  const changes: readonly (readonly [string, () => unknown])[] = [
    ['commit', () => repo.git('commit', '--allow-empty', '-m', 'second')],
    ['packed', () => repo.git('pack-refs', '--all')],
    ['soft reset', () => repo.git('reset', '--soft', first)],
    ['another branch', () => repo.git('switch', '--create', 'other')],
    ['detached', () => repo.git('checkout', '--detach')],
    ['setting', () => repo.git('config', 'filter.x.clean', 'cat')],
    ['own settings', () => writeFileSync(join(home, '.gitconfig'), '[a]\nb = 1\n')],
    ['system settings', () => writeFileSync(join(home, 'system'), '[a]\nb = 2\n')],
  ];
  for (const [what, change] of changes) {
    await delay(WAIT_MS);
    await repos.get(git, repo.dir);
    const again = counted(repo.dir);
    await repos.get(again.git, repo.dir);
    assert.equal(again.calls, 0, `before: ${what}`);
    await change();
    const asked = counted(repo.dir);
    const found = await repos.get(asked.git, repo.dir);
    assert.ok(asked.calls > 0, what);
    const head = (await repo.git('rev-parse', '--verify', '--quiet', 'HEAD').catch(() => '')).trim();
    assert.equal(found?.headCommit ?? '', head, what);
  }
});

test('settings in files that others name are read each time', async (t) => {
  const { repo, repos, home } = await quietRepo(t);
  await repo.git('config', 'include.path', join(home, 'more'));
  await delay(WAIT_MS);
  const counting = counted(repo.dir);
  assert.equal((await repos.get(counting.git, repo.dir))?.settings.get('a.b'), undefined);
  writeFileSync(join(home, 'more'), '[a]\nb = 1\n');
  assert.deepEqual((await repos.get(counting.git, repo.dir))?.settings.get('a.b'), ['1']);
});
