import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  type Stats,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { plan, runner, smallRepo, temporaryDir, type TestRepo } from '../../test/helpers/host-repo.ts';
import { hostGit, type HostGit } from './git.ts';
import { KnownRepos } from './known-repos.ts';
import type { WorkingTreeSource } from './plan.ts';
import { commitSent, type QuickLook, quickLook } from './quick-look.ts';
import { workingTreeFacts } from './ship.ts';
import { commitWorkingTree, hiddenEntries, workingTreeIndexPath } from './shipped-commit.ts';
import type { ShippedRecord } from './shipped-record.ts';

interface Shipped {
  readonly git: HostGit;
  readonly last: ShippedRecord;
  readonly index: string;
  readonly look: () => Promise<QuickLook | undefined>;
}

/** What is known after a shipping of the working tree as it is. */
async function shipped(t: TestContext, repo: TestRepo): Promise<Shipped> {
  const dir = await temporaryDir(t);
  const git = hostGit(runner, repo.dir, new AbortController().signal);
  const { tree, last } = await wholeTree(repo, git, dir);
  const index = join(dir, 'kept-index');
  copyFileSync(workingTreeIndexPath(dir), index);
  const known = { ...last, ...tree };
  const repos = new KnownRepos(process.env);
  return { git, last: known, index, look: () => quickLook(git, repos, repo.dir, known, index) };
}

async function wholeTree(repo: TestRepo, git: HostGit, scratch: string) {
  const planned = await plan(repo.dir);
  const source = planned.source as WorkingTreeSource;
  const tree = await commitWorkingTree(git, workingTreeFacts(planned, source), scratch);
  const { headCommit, branch } = planned;
  const hidden = hiddenEntries(source.entries);
  const last = { staged: '0'.repeat(64), headCommit, branch, indexStamp: source.indexStamp, hidden };
  return { tree, last };
}

function stamps(repo: TestRepo, look: QuickLook): Map<string, Stats> {
  const found = new Map<string, Stats>();
  for (const { path } of look.changes) {
    const stat = lstatSync(join(repo.dir, path), { throwIfNoEntry: false });
    if (stat !== undefined) found.set(path, stat);
  }
  return found;
}

test('what was edited, deleted and replaced is told, and committed as a whole look would', async (t) => {
  const repo = await smallRepo(t);
  for (const name of ['edited', 'deleted', 'linked', 'becomes-a-directory', 'same'])
    repo.write(name, `${name}\n`);
  await repo.commit();
  const { git, look, index } = await shipped(t, repo);
  assert.deepEqual((await look())?.changes, []);
  repo.write('edited', 'otherwise\n');
  rmSync(join(repo.dir, 'deleted'));
  rmSync(join(repo.dir, 'linked'));
  symlinkSync('edited', join(repo.dir, 'linked'));
  rmSync(join(repo.dir, 'becomes-a-directory'));
  mkdirSync(join(repo.dir, 'becomes-a-directory'));
  repo.write('becomes-a-directory/untracked');
  repo.write('.env', 'secret\n');
  const found = await look();
  assert.deepEqual(
    found?.changes.map(({ path, to }) => [path, to?.mode.toString(8) ?? null]),
    [
      ['becomes-a-directory', null],
      ['deleted', null],
      ['edited', '100644'],
      ['linked', '120000'],
    ],
  );
  const quick = await commitSent(git, found, stamps(repo, found), index, await temporaryDir(t));
  const whole = await wholeTree(repo, git, await temporaryDir(t));
  assert.deepEqual(quick, whole.tree);
});

test('another look is needed when more has changed than files', async (t) => {
  const changes: readonly (readonly [string, (repo: TestRepo) => unknown])[] = [
    ['staged', (repo) => repo.git('add', '--all')],
    ['committed', (repo) => repo.git('commit', '--allow-empty', '-m', 'more')],
    [
      'HEAD alone',
      (repo) =>
        repo
          .git('commit-tree', '-m', 'x', 'HEAD^{tree}')
          .then((oid) => repo.git('update-ref', 'HEAD', oid.trim())),
    ],
    ['many files', (repo) => Array.from({ length: 101 }, (_, at) => repo.write(`many/${at}`, 'changed\n'))],
    ['no repository', (repo) => rmSync(join(repo.dir, '.git', 'HEAD'))],
  ];
  for (const [what, change] of changes) {
    const repo = await smallRepo(t);
    for (let at = 0; at < 101; at++) repo.write(`many/${at}`);
    await repo.commit();
    const { look } = await shipped(t, repo);
    repo.write('readme.md', 'changed\n');
    assert.equal((await look())?.changes.length, 1, what);
    await change(repo);
    assert.equal(await look(), undefined, what);
  }
});

test('entries that git is told not to look at need another look', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('update-index', '--assume-unchanged', 'readme.md');
  const { look } = await shipped(t, repo);
  assert.equal(await look(), undefined);
});

test('no filter of the configuration runs', async (t) => {
  const repo = await smallRepo(t);
  const trace = join(await temporaryDir(t), 'ran');
  repo.write('.gitattributes', '* filter=spy\n');
  await repo.commit();
  const { look, git, index } = await shipped(t, repo);
  await repo.git('config', 'filter.spy.clean', `sh -c 'touch ${trace}; cat'`);
  await repo.git('config', 'filter.spy.required', 'true');
  // Of the same size and second: git has to read it.
  repo.write('readme.md', readFileSync(join(repo.dir, 'readme.md'), 'utf8').toUpperCase());
  const found = await look();
  assert.deepEqual(
    found?.changes.map(({ path }) => path),
    ['readme.md'],
  );
  await commitSent(git, found, stamps(repo, found), index, await temporaryDir(t));
  assert.ok(!existsSync(trace));
});

test('a file that has changed again since it was sent is not written down', async (t) => {
  const repo = await smallRepo(t);
  const { look, git, index } = await shipped(t, repo);
  repo.write('readme.md', 'changed\n');
  const found = await look();
  assert.ok(found);
  const sent = stamps(repo, found);
  writeFileSync(join(repo.dir, 'readme.md'), 'changeD\n');
  assert.equal(await commitSent(git, found, sent, index, await temporaryDir(t)), undefined);
  rmSync(join(repo.dir, 'readme.md'));
  assert.equal(await commitSent(git, found, sent, index, await temporaryDir(t)), undefined);
});
