/** What was changed in a VM comes back whole, by every way there is, and the VM's repository stays as it is. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { OperationSummary } from '../../src/api/results/daemon.ts';
import type {
  WorkspaceApplied,
  WorkspaceExported,
  WorkspaceFetched,
} from '../../src/api/results/workspace.ts';
import { makeRepo } from '../fixtures/make-repo.ts';
import { ROOT, settled, TestHome } from '../helpers/test-home.ts';

const FILES = 5000;
/** More than fits in the windows and pipes on its way. */
const LARGE_BYTES = 6_000_000;
const ODD = 'odd\nname  "quoted" ünï -x';

const CHANGES = `
set -e
git config user.email guest@example.com; git config user.name Guest
rm -rf src/area-1
printf 'edited\\n' >> src/area-0/part-0/file-00001.ts
printf 'ignored\\n' > ignored
git mv "$1" 'moved here'
git commit -qam 'in the guest'
chmod 755 src/area-0/part-0/file-00002.ts
rm link && printf 'no link any more\\n' > link
printf 'a\\000b\\377' > binary
mkdir -p new/deep; ln -s ../binary new/link; printf 'x' > "new/deep/$1"
git add new/link
printf 'not executable\\n' > tool; chmod 644 tool
`;
/** Everything of the repository that an export must leave alone. */
const STATE = `
stat -c '%n %i %s %y %z' .git/index .git/HEAD; sha256sum .git/index; git for-each-ref; git stash list
find .git/objects -type f | sort | sha256sum; ls -A .git; ls /var/lib/banger
`;
const TREE = `
cp -p .git/index /tmp/index; export GIT_INDEX_FILE=/tmp/index; git add -A && git write-tree
`;

describe('workspace export', () => {
  let home: TestHome;
  let repo: string;
  const gitEnv = (): NodeJS.ProcessEnv => ({
    ...home.env,
    PATH: `${join(ROOT, 'bin')}:${process.env['PATH']}`,
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_AUTHOR_NAME: 'A',
    GIT_AUTHOR_EMAIL: 'a@example.com',
    GIT_COMMITTER_NAME: 'A',
    GIT_COMMITTER_EMAIL: 'a@example.com',
  });
  const git = (dir: string, ...args: readonly string[]): string =>
    execFileSync('git', ['-C', dir, ...args], { env: gitEnv(), encoding: 'utf8', stdio: 'pipe' }).trimEnd();
  const treeOf = (dir: string): string => {
    git(dir, 'add', '--all');
    return git(dir, 'write-tree');
  };
  const inGuest = (script: string, ...args: readonly string[]): Promise<string> =>
    home.guest('dev', 'sh', '-c', script, 'sh', ...args);
  const cloneOf = (name: string): string => {
    const dir = join(home.dir, name);
    git('/', 'clone', '--quiet', '--no-hardlinks', repo, dir);
    return dir;
  };

  before(async () => {
    home = TestHome.warm();
    repo = join(home.dir, 'project');
    await makeRepo(repo, { files: FILES, bytes: FILES * 3000, commits: 14 });
    mkdirSync(join(repo, 'dir'));
    symlinkSync('dir', join(repo, 'link'));
    writeFileSync(join(repo, ODD), 'odd, and long enough to be seen to have moved\n'.repeat(5));
    writeFileSync(join(repo, 'tool'), '#!/bin/sh\n');
    chmodSync(join(repo, 'tool'), 0o755);
    writeFileSync(join(repo, 'binary'), Buffer.from([0, 1, 2, 3, 255]));
    writeFileSync(join(repo, '.gitignore'), 'ignored\n');
    writeFileSync(join(repo, 'lines'), 'one\ntwo\nthree\nfour\nfive\n');
    git(repo, 'add', '--all');
    git(repo, 'commit', '--quiet', '--message', 'last');
    await home.ok(['vm', 'run', '-d', '--name', 'dev', repo]);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('nothing changed: nothing comes, and that is no failure', async () => {
    const { status, stdout, stderr } = await home.run(['vm', 'workspace', 'export', 'dev']);
    assert.deepEqual([status, stdout.length], [0, 0]);
    assert.match(stderr, /nothing differs from/);
  });

  test('edited, added, deleted, renamed, committed: applied to a clean clone, the trees are equal', async () => {
    await inGuest(CHANGES, ODD);
    const state = await inGuest(STATE);
    const { status, stdout, stderr } = await home.run(['vm', 'workspace', 'export', 'dev']);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /dev: \d+ files, \+\d+ -\d+, 1 commit of the VM among it/);
    assert.equal(await inGuest(STATE), state, 'the repository in the guest is as it was');
    const clone = cloneOf('clean');
    execFileSync('git', ['-C', clone, 'apply'], { input: stdout, env: gitEnv(), stdio: 'pipe' });
    assert.equal(treeOf(clone), await inGuest(TREE));
    const file = join(home.dir, 'dev.patch');
    const exported = await home.json<WorkspaceExported>(['vm', 'workspace', 'export', 'dev', '-o', file]);
    assert.deepEqual(readFileSync(file), stdout);
    assert.deepEqual([exported.bytes, exported.path, exported.commits], [stdout.length, file, 1]);
    const refused = await home.run(['vm', 'workspace', 'export', 'dev', '-o', file]);
    assert.match(refused.stderr, /exists already/);
    const less = await home.json<WorkspaceExported>([
      ...['vm', 'workspace', 'export', 'dev', '--stat', '--base-commit', 'HEAD'],
    ]);
    assert.equal(less.commits, 0);
    assert(less.files < exported.files);
    assert(!less.changes.some(({ path }) => path === 'moved here' || path === 'ignored'));
  });

  test('merged onto the host, what was changed there stays', async () => {
    await inGuest("sed -i 's/^one$/ONE of the guest/' lines");
    writeFileSync(join(repo, 'lines'), 'one\ntwo\nthree\nfour\nFIVE of the host\n');
    writeFileSync(join(repo, 'untracked of the host'), 'mine\n');
    const index = readFileSync(join(repo, '.git', 'index'));
    const tried = await home.json<WorkspaceApplied>([
      ...['vm', 'workspace', 'export', 'dev', '--apply', '--dry-run'],
    ]);
    assert(!tried.applied && tried.files > 5);
    const { status, stdout, stderr } = await home.run(['vm', 'workspace', 'export', 'dev', '--apply']);
    assert.equal(status, 0, stderr);
    assert.match(stdout.toString(), /^A moved here/m);
    assert.deepEqual(readFileSync(join(repo, '.git', 'index')), index);
    const lines = 'ONE of the guest\ntwo\nthree\nfour\nFIVE of the host\n';
    assert.equal(readFileSync(join(repo, 'lines'), 'utf8'), lines);
    // But for what only the host has.
    writeFileSync(join(repo, 'lines'), lines.replace('FIVE of the host', 'five'));
    rmSync(join(repo, 'untracked of the host'));
    assert.equal(treeOf(repo), await inGuest(TREE));
    git(repo, 'reset', '--quiet');
    writeFileSync(join(repo, 'lines'), 'of the host\n');
    const conflict = await home.run(['vm', 'workspace', 'export', 'dev', '--apply']);
    assert.equal(conflict.status, 1);
    assert.match(conflict.stderr, /1 conflict; nothing was written\n {2}lines \(contents\)/);
    assert.equal(readFileSync(join(repo, 'lines'), 'utf8'), 'of the host\n');
  });

  test('the commits as a branch, through git; the host does not become shallow', async () => {
    const fetched = await home.json<WorkspaceFetched>([
      'vm',
      'workspace',
      'export',
      'dev',
      '--branch',
      'from/dev',
    ]);
    assert.equal(fetched.commit, await home.guest('dev', 'git', 'rev-parse', 'HEAD'));
    assert.deepEqual([fetched.commits, fetched.oldCommit, fetched.guestBranch], [1, null, null]);
    assert(fetched.uncommitted > 5);
    assert.equal(git(repo, 'rev-parse', '--is-shallow-repository'), 'false');
    const ref = statSync(join(repo, '.git/refs/heads/from/dev'));
    assert.equal(ref.mode & 0o777, 0o666 & ~process.umask());
    assert.equal(git(repo, 'rev-list', '--count', 'from/dev'), '16');
    assert.equal(git(repo, 'for-each-ref', '--format=%(refname)'), 'refs/heads/from/dev\nrefs/heads/main');
    assert.equal(git(repo, 'fsck', '--no-dangling'), '');
    await inGuest('git checkout -q -b from/dev && git commit -q --amend -m other');
    const again = await home.run(['vm', 'workspace', 'export', 'dev', '--branch', 'from/dev']);
    assert.match(again.stderr, /has commits that the VM's has not/);
    const forced = await home.json<WorkspaceFetched>([
      ...['vm', 'workspace', 'export', 'dev', '--branch', 'from/dev', '--force'],
    ]);
    assert.deepEqual([forced.guestBranch, forced.oldCommit], ['from/dev', fetched.commit]);
    const checkedOut = await home.run(['vm', 'workspace', 'export', 'dev', '--branch', 'main']);
    assert.match(checkedOut.stderr, /main is checked out at/);
  });

  test('git itself clones from the VM and pushes to it', async () => {
    const clone = join(home.dir, 'cloned');
    git('/', 'clone', '--quiet', 'banger::dev', clone);
    assert.equal(git(clone, 'rev-parse', 'HEAD'), await home.guest('dev', 'git', 'rev-parse', 'HEAD'));
    git(clone, 'commit', '--quiet', '--allow-empty', '--message', 'of the clone');
    git(clone, 'push', '--quiet', 'origin', 'HEAD:refs/heads/pushed');
    assert.equal(await home.guest('dev', 'git', 'rev-parse', 'pushed'), git(clone, 'rev-parse', 'HEAD'));
    assert.throws(() => git('/', 'ls-remote', 'banger::nobody'), /no VM "nobody"/);
  });

  test('stopping the VM ends an export that nobody reads; the next sweeps what it left', async () => {
    await inGuest(`head -c ${LARGE_BYTES} /dev/urandom > large`);
    const file = join(home.dir, 'large.patch');
    const held = home.start(['vm', 'workspace', 'export', 'dev'], { holdOutput: true });
    await settled(async () => (await inGuest('ls /var/lib/banger')).includes('workspace-git'));
    const second = home.start(['vm', 'workspace', 'export', 'dev', '-o', file]);
    const begun = async (): Promise<boolean> => {
      const operations = await home.json<readonly OperationSummary[]>(['operation', 'list']);
      return operations.filter(({ method }) => method === 'workspace.export').length === 2;
    };
    await settled(begun);
    assert(await begun());
    await home.ok(['vm', 'stop', 'dev']);
    held.child.stdout.resume();
    for (const running of [held, second]) {
      const { status, stderr } = await running.done;
      assert.notEqual(status, 0);
      assert.match(stderr, /is being stopped|connection to the guest|has just ended/);
    }
    assert(!existsSync(file));
    assert.deepEqual(
      readdirSync(home.dir).filter((name) => name.includes('tmp')),
      [],
    );
    await home.ok(['vm', 'start', 'dev']);
    await inGuest('mkdir -p /var/lib/banger/workspace-git/of-an-interrupted-one');
    await home.ok(['vm', 'workspace', 'export', 'dev', '--stat']);
    assert.doesNotMatch(await inGuest('ls /var/lib/banger'), /workspace-git/);
  });
});
