import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { AgentHost } from '../../test/helpers/agent-host.ts';
import {
  gitIn,
  initRepo,
  plan,
  repoAt,
  runner,
  temporaryDir,
  type TestRepo,
  treeOf,
} from '../../test/helpers/host-repo.ts';
import type { AgentClient } from '../guest/agent-client.ts';
import { type CopiedRepo, withFullCopy } from './full-copy.ts';
import type { PlanOptions } from './plan.ts';

const SECRET = 'hunter2';

/** `lib` with `deep` inside, `Odd Näme` under another name, and `later`, which is not cloned. */
async function makeRepo(dir: string): Promise<void> {
  const deep = await initRepo(join(dir, 'origins/deep'));
  deep.write('deep.txt');
  await deep.commit('deep');
  const lib = await initRepo(join(dir, 'origins/lib'));
  for (let number = 0; number < 12; number += 1) {
    lib.write('lib.txt', `${number}\n`);
    await lib.commit(`lib ${number}`);
  }
  await lib.git('submodule', '--quiet', 'add', deep.dir, 'in/deep');
  await lib.commit('with deep');
  const repo = await initRepo(join(dir, 'project'));
  for (let number = 0; number < 12; number += 1) {
    repo.write('top.txt', `${number}\n`);
    await repo.commit(`top ${number}`);
  }
  await repo.git('submodule', '--quiet', 'add', lib.dir, 'vendor/lib');
  await repo.git('submodule', '--quiet', 'add', '--name', 'other/name', deep.dir, 'Odd Näme');
  await repo.git('submodule', '--quiet', 'add', deep.dir, 'later');
  await repo.commit('with submodules');
  await repo.git('submodule', '--quiet', 'deinit', '--force', 'later');
  await repo.git('submodule', '--quiet', 'update', '--init', '--recursive', 'vendor/lib');
}

describe('a full copy', () => {
  let host: AgentHost;
  let agent: AgentClient;
  let pattern: string;
  before(async () => {
    pattern = await mkdtemp(join(tmpdir(), 'banger-full-copy-'));
    await makeRepo(pattern);
    host = await AgentHost.start();
    agent = await host.connect();
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    await rm(pattern, { recursive: true });
  });

  const repoWithSubmodules = async (t: TestContext): Promise<TestRepo> => {
    const dir = join(await temporaryDir(t), 'project');
    await runner.run(['cp', '-a', join(pattern, 'project'), dir]);
    return repoAt(dir);
  };

  const copy = async (
    t: TestContext,
    path: string,
    options: Partial<PlanOptions> = {},
  ): Promise<{ dir: string; repos: readonly CopiedRepo[] }> => {
    const own = await temporaryDir(t);
    const planned = await plan(path, { submodules: 'copy', ...options });
    const scratchDir = join(own, 'scratch');
    const { signal } = new AbortController();
    const base = join(own, 'copy');
    const repos = await withFullCopy(
      { plan: planned, scratchDir, runner, signal, onFile: () => undefined },
      async (made) => {
        await agent.unpack({ base, marksShipped: true }, made.records());
        return made.repos;
      },
    );
    assert.deepEqual(readdirSync(scratchDir), []);
    return { dir: base, repos };
  };
  const assertSame = async (one: string, other: string, ...args: string[]): Promise<void> => {
    assert.equal(await gitIn(other, ...args), await gitIn(one, ...args), `git ${args.join(' ')}`);
  };

  test('has all history, branches and tags, and the files as they are', async (t) => {
    const repo = await repoWithSubmodules(t);
    await repo.git('tag', '-a', 'v1', '-m', 'one', 'HEAD~3');
    await repo.git('tag', '-a', 'of-v1', '-m', 'a tag of a tag', 'v1');
    await repo.git('tag', 'light', 'HEAD~12');
    await repo.git('switch', '--quiet', '--orphan', 'other');
    await repo.git('commit', '--quiet', '--allow-empty', '-m', 'an orphan');
    await repo.git('switch', '--quiet', 'main');
    await repo.git('submodule', '--quiet', 'update', '--init', '--recursive', 'vendor/lib', 'Odd Näme');
    repo.write('top.txt', 'not committed\n');
    repo.write('staged.txt');
    await repo.git('add', 'staged.txt');
    repo.write('.env', SECRET);
    repo.write('vendor/lib/.env', SECRET);
    repo.write('vendor/lib/lib.txt', 'changed in the submodule\n');
    repo.write('.git/hooks/post-checkout', '#!/bin/sh\ntouch /tmp/hooked\n', 0o755);
    await repo.git('remote', 'add', 'origin', `https://me:${SECRET}@example.com/top`);
    await repo.git('config', 'submodule.vendor/lib.url', `https://me:${SECRET}@example.com/lib`);
    await gitIn(
      join(repo.dir, 'vendor/lib'),
      'remote',
      'set-url',
      'origin',
      `https://${SECRET}@example.com/lib`,
    );
    await gitIn(join(repo.dir, 'vendor/lib'), 'stash', 'store', '-m', 'kept', 'HEAD');
    const { dir, repos } = await copy(t, repo.dir);

    assert.equal(await submodulesOf(dir), await submodulesOf(repo.dir));
    for (const args of [
      ['status', '--porcelain=v2', '--untracked-files=no'],
      ['for-each-ref', 'refs/heads', 'refs/tags'],
      ['log', '--format=%H %T', 'main', 'other'],
      ['diff'],
      ['diff', '--cached'],
    ])
      await assertSame(repo.dir, dir, ...args);
    assert.equal((await gitIn(dir, 'rev-list', '--count', 'main')).trim(), '13');
    for (const each of ['vendor/lib', 'vendor/lib/in/deep', 'Odd Näme']) {
      const [here, there] = [join(repo.dir, each), join(dir, each)];
      await assertSame(here, there, 'log', '--format=%H', '--branches', 'HEAD');
      await assertSame(here, there, 'status', '--porcelain=v2', '--untracked-files=no');
      await gitIn(there, 'fsck', '--strict', '--no-dangling');
    }
    await gitIn(dir, 'fsck', '--strict', '--no-dangling');
    const wanted = treeOf(repo.dir);
    for (const left of ['.env', 'vendor/lib/.env']) assert.ok(wanted.delete(left));
    assert.deepEqual(withoutLinks(treeOf(dir)), withoutLinks(wanted));
    assert.deepEqual(readdirSync(join(dir, 'later')), []);
    assert.equal(
      readFileSync(join(dir, 'vendor/lib/.git'), 'utf8'),
      'gitdir: ../../.git/modules/vendor/lib\n',
    );
    assert.deepEqual(
      repos.map(({ path, gitDir }) => [path, gitDir]),
      [
        ['', ''],
        ['Odd Näme', 'modules/other/name'],
        ['vendor/lib', 'modules/vendor/lib'],
        ['vendor/lib/in/deep', 'modules/vendor/lib/modules/in/deep'],
      ],
    );
    for (const { path, gitDir, record } of repos) {
      const refs = join(dir, '.git', gitDir, 'refs/banger/shipped');
      assert.equal(readFileSync(refs, 'utf8').trim(), record.commit);
      assert.equal(
        await gitIn(join(dir, path), 'diff', '--ignore-submodules=dirty', record.commit),
        '',
        'what was shipped is known',
      );
    }
    const names = readdirSync(dir, { recursive: true, encoding: 'utf8' });
    const files = names.filter((name) => statSync(join(dir, name)).isFile());
    assert.deepEqual(
      files.filter((name) => readFileSync(join(dir, name), 'latin1').includes(SECRET)),
      [],
    );
    assert.match(await gitIn(dir, 'config', 'submodule.vendor/lib.url'), /^https:\/\/example\.com\/lib\n$/);
    assert.deepEqual(
      names.filter((name) => /hooks|alternates|logs\/|stash/.test(name)),
      [],
    );
  });

  test("of another commit has that commit's files, and no submodule", async (t) => {
    const repo = await repoWithSubmodules(t);
    repo.write('top.txt', 'not committed\n');
    const { dir } = await copy(t, repo.dir, { branch: 'try', from: 'HEAD~2' });
    assert.equal(readFileSync(join(dir, 'top.txt'), 'utf8'), '10\n');
    assert.equal(await gitIn(dir, 'status', '--porcelain', '--branch'), '## try\n');
    assert.equal(
      (await gitIn(dir, 'rev-list', '--count', 'main')).trim(),
      '13',
      'the other branches are there',
    );
    const later = await copy(t, repo.dir, { branch: 'again', from: 'main' });
    assert.equal(await gitIn(later.dir, 'symbolic-ref', 'HEAD'), 'refs/heads/again\n');
    await assert.rejects(
      copy(t, repo.dir, { branch: 'main/below' }),
      /cannot be called main\/below where there is main/,
    );
  });

  test('of a clone that is shallow, borrows objects or is a linked working tree stands by itself', async (t) => {
    const repo = await repoWithSubmodules(t);
    const dir = await temporaryDir(t);
    await gitIn(dir, 'clone', '--quiet', '--depth=3', `file://${repo.dir}`, 'shallow');
    await gitIn(dir, 'clone', '--quiet', '--shared', repo.dir, 'shared');
    await repo.git('worktree', 'add', '--quiet', join(dir, 'linked'), '-b', 'linked');
    for (const name of ['shallow', 'shared', 'linked']) {
      const made = await copy(t, join(dir, name));
      await gitIn(made.dir, 'fsck', '--strict', '--no-dangling');
      await assertSame(join(dir, name), made.dir, 'log', '--format=%H', 'HEAD');
      assert.equal(await gitIn(made.dir, 'status', '--porcelain'), '', name);
      assert.equal(statSync(join(made.dir, '.git')).isDirectory(), true);
    }
  });
});

/** Without the nearest ref's name: the copy has no remote branches, and one ref of its own. */
async function submodulesOf(dir: string): Promise<string> {
  return (await gitIn(dir, 'submodule', 'status', '--recursive')).replaceAll(/ \([^)]*\)$/gm, '');
}

/** A submodule's .git is a file, or a directory, and so is part of no tree. */
function withoutLinks(tree: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...tree].filter(([path]) => !path.endsWith('.git')));
}
