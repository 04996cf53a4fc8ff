/** `vm workspace prepare`: a copy in a VM that runs, brought up to date without losing what was changed in either place. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { VmDetail } from '../../src/api/results/vm.ts';
import type { WorkspacePrepared, WorkspaceStatus } from '../../src/api/results/workspace.ts';
import { gitIn, initRepo, type TestRepo, treeOf } from '../helpers/host-repo.ts';
import { TestHome } from '../helpers/test-home.ts';

const utf8 = (bytes: string): string => Buffer.from(bytes, 'latin1').toString('utf8');
const ODD = 'odd\nname ünï';

describe('workspace prepare', () => {
  let home: TestHome;
  let repo: TestRepo;
  before(async () => {
    home = TestHome.warm();
    repo = await initRepo(join(home.dir, 'project'));
    for (let number = 0; number < 50; number += 1) repo.write(`many/${number % 5}/${number}`);
    repo.write('run.sh', '#!/bin/sh\necho one\n', 0o755);
    repo.write(ODD);
    repo.write('.gitignore', 'built\n.env\n');
    repo.write('binary', Buffer.from(Array.from({ length: 256 }, (_, value) => value)));
    await repo.commit('first');
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  const prepare = (...flags: string[]) =>
    home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev', ...flags]);
  const guest = (...argv: string[]) => home.guest('dev', ...argv);
  const inGuest = (script: string) => guest('sh', '-c', script);
  /** Everything but `.git`, from the guest. */
  const guestTree = async (): Promise<Map<string, string>> => {
    const dir = join(home.dir, 'seen');
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const { stdout } = await home.run(['vm', 'exec', 'dev', '--', 'tar', 'c', '--exclude=./.git', '.']);
    execFileSync('tar', ['x', '-C', dir], { input: stdout });
    return treeOf(dir);
  };
  /** Files of the guest's own, in some of the tests. */
  const onlyThere = ['built', 'mine'];
  const assertEqualTrees = async (...left: string[]): Promise<void> => {
    const [here, there] = [treeOf(repo.dir), await guestTree()];
    for (const path of left) here.delete(path);
    for (const path of onlyThere) there.delete(path);
    assert.deepEqual(there, here);
    assert.equal(
      await guest('git', 'status', '--porcelain', '-z', '--untracked-files=no'),
      utf8(await repo.git('status', '--porcelain', '-z', '--untracked-files=no')).trimEnd(),
    );
    assert.equal(await guest('git', 'rev-parse', 'HEAD'), (await repo.git('rev-parse', 'HEAD')).trim());
  };

  test('without a copy there is nothing to bring up to date', async () => {
    const { status, stderr } = await home.run(['vm', 'workspace', 'prepare', 'dev']);
    assert.equal(status, 1);
    assert.match(stderr, /no copy of a repository yet\n.*prepare dev PATH/);
  });

  test('a copy is made in a VM that runs', async () => {
    writeFileSync(join(repo.dir, '.env'), 'SECRET=1\n');
    writeFileSync(join(repo.dir, 'untracked'), 'left\n');
    const done = await prepare(repo.dir);
    assert.deepEqual([done.outcome, done.files, done.untrackedLeft], ['created', 54, 1]);
    await assertEqualTrees('.env', 'untracked');
    const vm = await home.json<VmDetail>(['vm', 'show', 'dev']);
    assert.equal(vm.workspace?.headCommit, done.headCommit);
    assert.equal(vm.workspace?.shipped?.commit, done.headCommit);
    assert.equal((await prepare()).outcome, 'unchanged');
  });

  test('what changed here is sent, and only that', async () => {
    repo.write('many/0/0', 'changed\n');
    repo.write('new/deep/er', 'new\n');
    await repo.git('add', 'new');
    repo.write('binary', Buffer.alloc(300_000, 7));
    unlinkSync(join(repo.dir, 'many/1/1'));
    renameSync(join(repo.dir, ODD), join(repo.dir, `${ODD}2`));
    await repo.git('add', '--all', '--', ODD, `${ODD}2`);
    chmodSync(join(repo.dir, 'run.sh'), 0o644);
    rmSync(join(repo.dir, 'many/2'), { recursive: true });
    symlinkSync('../run.sh', join(repo.dir, 'many/2'));
    await repo.git('add', 'many/2');
    const planned = await prepare('--dry-run');
    const done = await prepare();
    assert.deepEqual(done.paths, planned.paths);
    assert.deepEqual([done.outcome, done.files, done.deleted], ['updated', 6, 12]);
    await assertEqualTrees('.env', 'untracked');
    assert.equal((await prepare()).outcome, 'unchanged');
    assert.equal(await guest('git', 'diff', '--stat', 'refs/banger/shipped'), '');
    assert.equal(await guest('sh', '-c', 'ls -a | grep -c -e env -e untracked || true'), '0');
  });

  test('changes of the guest stay, also where the host changed something else', async () => {
    await inGuest('echo guest >> many/3/3; echo built > built; echo mine > mine');
    repo.write('many/4/4', 'host\n');
    assert.deepEqual((await prepare()).paths, ['many/4/4']);
    assert.equal(await inGuest('tail -n1 many/3/3; cat built mine many/4/4'), 'guest\nbuilt\nmine\nhost');
  });

  test('what both changed is not overwritten, and nothing else is written then', async () => {
    repo.write('many/3/3', 'host\n');
    repo.write('many/4/4', 'host again\n');
    const { status, stderr } = await home.run(['vm', 'workspace', 'prepare', 'dev']);
    assert.equal(status, 1);
    assert.match(stderr, /changed both here and in VM "dev": many\/3\/3\n.*--force/);
    // What was refused is no shipping that was cut off.
    await home.ok(['vm', 'workspace', 'export', 'dev', '--stat']);
    assert.equal(await inGuest('tail -n1 many/3/3; cat many/4/4'), 'guest\nhost');
    await inGuest('printf "host\\n" > many/3/3');
    assert.deepEqual(
      (await prepare()).paths,
      ['many/3/3', 'many/4/4'],
      'the same on both sides is no conflict',
    );
    await inGuest('echo guest > many/3/3; rm many/4/4');
    repo.write('many/3/3', 'third\n');
    unlinkSync(join(repo.dir, 'many/4/4'));
    const { files, commits, drift } = await home.json<WorkspaceStatus>(['vm', 'workspace', 'status', 'dev']);
    assert.deepEqual(files, [
      { path: 'many/3/3', here: 'modified', there: 'modified', same: false },
      { path: 'many/4/4', here: 'deleted', there: 'deleted', same: true },
      { path: 'mine', here: null, there: 'added', same: false },
    ]);
    assert.deepEqual([commits, drift], [0, null]);
    await assert.rejects(prepare(), /many\/3\/3/);
    await home.ok(['vm', 'workspace', 'export', 'dev', '--stat']);
    assert.equal((await prepare('--force')).outcome, 'updated');
    assert.equal(
      await inGuest('cat many/3/3 mine; ls many/4'),
      `third\nmine\n14\n19\n24\n29\n34\n39\n44\n49\n9`,
    );
  });

  test('whatever kind of change is the same on both sides is no conflict', async () => {
    repo.write('kind/file');
    repo.write('kind/dir/one');
    repo.write(`kind/${ODD}`);
    symlinkSync('old', join(repo.dir, 'kind/link'));
    await repo.git('add', 'kind');
    await prepare();
    const script = `cd "$1" && ln -sfn new link && rm file && mkdir file && echo in > file/in &&
      rm -r dir && echo now > dir && printf changed > "$2"`;
    await guest('sh', '-c', script, '-', '/root/repo/kind', ODD);
    execFileSync('sh', ['-c', script, '-', join(repo.dir, 'kind'), ODD]);
    await repo.git('add', '--all', 'kind');
    repo.write('many/4/9', 'only here\n');
    const status = await home.json<WorkspaceStatus>(['vm', 'workspace', 'status', 'dev']);
    const kinds = status.files.filter(({ path }) => path.startsWith('kind/'));
    assert.deepEqual(new Set(kinds.map(({ same }) => same)), new Set([true]));
    assert.equal((await prepare()).outcome, 'updated');
    await assertEqualTrees('.env', 'untracked');
    // What was found to be the same counts as sent.
    unlinkSync(join(repo.dir, 'kind/link'));
    symlinkSync('newer', join(repo.dir, 'kind/link'));
    repo.write('kind/file/in', 'more\n');
    await prepare();
    await assertEqualTrees('.env', 'untracked');
  });

  test('what stands in the way in the VM goes, if it may', async () => {
    repo.write('way/file');
    repo.write('way/dir/one');
    await repo.git('add', 'way');
    await prepare();
    await inGuest(
      'cd way && rm file && mkdir -p file/in && echo x > file/in/built && rm -r dir && echo 1 > dir',
    );
    repo.write('way/file', 'host\n');
    repo.write('way/dir/one', 'host\n');
    repo.write('many/0/5', 'host\n');
    const refused = await home.run(['vm', 'workspace', 'prepare', 'dev', '--dry-run']);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /changed both here and in VM "dev": .*way\/dir\b/);
    await assert.rejects(prepare('--save-patch', join(home.dir, 'lossy.patch')), /way\/file\/in\/built/);
    assert.equal(await inGuest('cat way/file/in/built'), 'x');
    await prepare('--force');
    await assertEqualTrees('.env', 'untracked');
    // The quick way finds it, too.
    repo.write('way/file', 'before\n');
    await prepare();
    await inGuest('rm way/file && mkdir way/file');
    repo.write('way/file', 'over what is empty\n');
    assert.deepEqual((await prepare()).paths, ['way/file']);
  });

  test('what the VM changed is saved as a patch before it is overwritten', async () => {
    const save = (file: string, ...flags: string[]) =>
      prepare('--save-patch', join(home.dir, file), ...flags);
    const head = (await repo.git('rev-parse', 'HEAD')).trim();
    await inGuest('echo saved > many/3/3; echo kept > only-there');
    repo.write('many/3/3', 'fourth\n');
    writeFileSync(join(home.dir, 'taken.patch'), 'mine\n');
    await assert.rejects(save('taken.patch'), /taken\.patch exists already/);
    await assert.rejects(save('missing/dir.patch'), /cannot write/);
    assert.equal(await inGuest('cat many/3/3'), 'saved', 'without a patch nothing is overwritten');
    assert.equal((await save('dry.patch', '--dry-run')).patch, null);
    await assert.rejects(prepare(), /vm workspace prepare dev --save-patch/);
    const done = await save('vm.patch');
    assert.deepEqual([done.patch?.files, done.patch?.commits], [3, 0]);
    assert.equal(await inGuest('cat many/3/3 only-there'), 'fourth\nkept');
    await gitIn(home.dir, 'clone', '--quiet', repo.dir, 'patched');
    await gitIn(join(home.dir, 'patched'), 'checkout', '--quiet', head);
    await gitIn(join(home.dir, 'patched'), 'apply', join(home.dir, 'vm.patch'));
    assert.equal(readFileSync(join(home.dir, 'patched/many/3/3'), 'utf8'), 'saved\n');
    assert.equal(readFileSync(join(home.dir, 'patched/only-there'), 'utf8'), 'kept\n');
    assert.equal(readFileSync(join(home.dir, 'taken.patch'), 'utf8'), 'mine\n');
    await inGuest('rm only-there mine');
    const none = await save('none.patch');
    assert.deepEqual([none.patch, existsSync(join(home.dir, 'none.patch'))], [null, false]);
    repo.write('many/3/3', 'third\n');
    await save('taken.patch', '--force');
  });

  test('commits made here come with their history; exec says that they have not, until they are there', async () => {
    await inGuest('rm built');
    await repo.git('checkout', '--quiet', '-b', 'topic');
    await repo.git('rm', '--quiet', '--cached', '-r', '--ignore-unmatch', 'untracked');
    await repo.git('add', '--update');
    await repo.git('commit', '--quiet', '-m', 'second');
    repo.write('readme', 'third\n');
    await repo.git('add', 'readme');
    await repo.git('commit', '--quiet', '-m', 'third');
    const behind = await home.run(['vm', 'exec', 'dev', '--', 'true']);
    assert.match(behind.stderr, /the copy in dev is 2 commits behind \(.* "third"\); add --auto-prepare/);
    const now = await home.run(['vm', 'exec', 'dev', '--auto-prepare', '--', 'git', 'log', '--format=%s']);
    assert.deepEqual([now.status, now.stdout.toString()], [0, 'third\nsecond\nfirst\n']);
    assert.doesNotMatch(now.stderr, /behind/);
    await assertEqualTrees('.env', 'untracked');
    assert.equal(await guest('git', 'branch', '--show-current'), 'topic');
    assert.equal(await guest('git', 'fsck', '--connectivity-only', '--no-dangling'), '');
  });

  test("commits made there are not left behind by a move of the host's HEAD", async () => {
    await inGuest(
      'echo x > theirs && git add theirs && git -c user.name=g -c user.email=g@x commit -qm theirs',
    );
    repo.write('readme', 'fourth\n');
    assert.deepEqual((await prepare()).paths, ['readme'], 'files alone may come');
    await repo.git('commit', '--quiet', '--all', '--amend', '-m', 'amended');
    await assert.rejects(prepare(), /commits were made in the copy/);
    const theirs = await guest('git', 'rev-parse', 'HEAD');
    assert.equal((await prepare('--force')).outcome, 'updated');
    assert.equal(await guest('git', 'log', '-1', '--format=%s'), 'amended');
    assert.equal(await guest('git', 'rev-parse', `refs/banger/overwritten/${theirs.slice(0, 12)}`), theirs);
    assert.equal(await guest('git', 'fsck', '--connectivity-only', '--no-dangling'), '');
    await inGuest('rm theirs');
    await assertEqualTrees('.env', 'untracked');
  });

  test('it is all there after a restart of the daemon and of the VM', async () => {
    await home.ok(['daemon', 'stop']);
    repo.write('readme', 'fifth\n');
    assert.deepEqual((await prepare()).paths, ['readme']);
    await home.ok(['vm', 'restart', 'dev']);
    assert.equal((await prepare()).outcome, 'unchanged');
    await assertEqualTrees('.env', 'untracked');
  });

  test('a file that was shipped untracked and is ignored now is shipped no more', async () => {
    unlinkSync(join(repo.dir, 'untracked'));
    repo.write('secret', 'one\n');
    await prepare('--include-untracked');
    assert.equal(await inGuest('cat secret'), 'one');
    repo.write('.gitignore', 'built\n.env\nsecret\n');
    repo.write('secret', 'two\n');
    assert.equal((await prepare()).deleted, 1);
    assert.equal(await inGuest('cat secret 2>/dev/null || echo gone'), 'gone');
  });

  test('a copy elsewhere, which the guest cannot write to', async () => {
    const script = 'pwd; cat run.sh >/dev/null && touch new 2>&1 | grep -c Read-only';
    const where = ['--guest-path', '/data/project', '--readonly'];
    const there = await home.run(['vm', 'run', '--name', 'ro', repo.dir, ...where, '--', 'sh', '-c', script]);
    assert.deepEqual([there.status, there.stdout.toString()], [0, '/data/project\n1\n'], there.stderr);
    const inRo = (script: string) => home.guest('ro', 'sh', '-c', script);
    repo.write('readme', 'for the read-only one\n');
    repo.write('added', 'new\n');
    await repo.git('add', 'added');
    // A program that has the file open keeps what it has.
    await inRo('sh -c "exec 3<readme; sleep 1000 3<&3" >/dev/null 2>&1 & echo $! > /tmp/pid; sleep 0.2');
    const update = () => home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'ro']);
    assert.deepEqual((await update()).paths, ['added', 'readme']);
    assert.equal(
      await inRo('cat added readme; git status --porcelain'),
      'new\nfor the read-only one\n M .gitignore\nA  added\n M readme',
    );
    assert.match(await inRo('cat /proc/$(cat /tmp/pid)/fd/3'), /fifth/);
    assert.match(await inRo('touch new 2>&1 || true'), /Read-only/);
    assert.equal((await update()).outcome, 'unchanged');
    await home.ok(['vm', 'restart', 'ro']);
    repo.write('readme', 'after a restart\n');
    assert.deepEqual((await update()).paths, ['readme']);
    assert.equal(await inRo('cat readme; touch new 2>&1 | grep -c Read-only'), 'after a restart\n1');
    const bad = await home.run(['vm', 'run', repo.dir, '--guest-path', '/etc/project', '--', 'true']);
    assert.equal(bad.status, 125);
    assert.match(bad.stderr, /\/etc belongs to the system/);
    await home.ok(['vm', 'delete', 'ro']);
  });

  test('another repository, or another place, is refused', async () => {
    await gitIn(home.dir, 'clone', '--quiet', repo.dir, 'other');
    await assert.rejects(
      prepare(join(home.dir, 'other')),
      /has a copy of .*project at \/root\/repo; the repository cannot change to [^"]*other"/,
    );
    await assert.rejects(
      prepare('--guest-path', '/work'),
      /; --guest-path cannot change from \/root\/repo to \/work"/,
    );
    await prepare();
    assert.equal((await prepare(join(repo.dir, 'many'))).outcome, 'unchanged');
  });
});
