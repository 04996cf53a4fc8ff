/** A repository's copy in a guest. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { WorkspacePlan } from '../../src/api/results/workspace.ts';
import { TestHome } from '../helpers/test-home.ts';

const ODD = 'odd\nname  "quoted" ünï -x';
const GIT_ENV = {
  ...process.env,
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'A',
  GIT_AUTHOR_EMAIL: 'a@example.com',
  GIT_COMMITTER_NAME: 'A',
  GIT_COMMITTER_EMAIL: 'a@example.com',
};

function git(dir: string, ...args: readonly string[]): string {
  return execFileSync('git', ['-C', dir, ...args], {
    env: GIT_ENV,
    encoding: 'utf8',
    stdio: 'pipe',
  }).trimEnd();
}

function makeRepo(dir: string): void {
  mkdirSync(join(dir, 'src'), { recursive: true });
  git(dir, 'init', '--quiet', '--initial-branch=trunk');
  writeFileSync(join(dir, 'src', 'run.sh'), '#!/bin/sh\necho ran in "$PWD"\n');
  chmodSync(join(dir, 'src', 'run.sh'), 0o755);
  writeFileSync(join(dir, 'crlf.txt'), 'one\r\ntwo\r\n');
  writeFileSync(join(dir, 'binary'), Buffer.from(Array.from({ length: 256 }, (_, value) => value)));
  writeFileSync(join(dir, 'empty'), '');
  writeFileSync(join(dir, ODD), 'odd\n');
  writeFileSync(join(dir, '-leading'), 'dash\n');
  writeFileSync(join(dir, '.gitignore'), 'ignored\n');
  symlinkSync('src/run.sh', join(dir, 'link'));
  symlinkSync('/nowhere', join(dir, 'dangling'));
  git(dir, 'add', '--all');
  git(dir, 'commit', '--quiet', '--message', 'first');
  writeFileSync(join(dir, 'empty2'), '');
  git(dir, 'add', '--all');
  git(dir, 'commit', '--quiet', '--message', 'second, the last');
  git(dir, 'remote', 'add', 'origin', 'https://git.example.com/team/project.git');
  writeFileSync(join(dir, 'untracked'), 'left behind\n');
  writeFileSync(join(dir, 'ignored'), 'never\n');
}

describe('workspace', () => {
  let home: TestHome;
  let repo: string;
  before(() => {
    home = TestHome.warm();
    repo = join(home.dir, 'project');
    makeRepo(repo);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('--dry-run lists what would go, and creates nothing', async () => {
    const outcome = await home.run(['vm', 'run', repo, '--dry-run']);
    assert.equal(outcome.status, 0, outcome.stderr);
    const listed = outcome.stdout.toString();
    assert.match(listed, /^src\/run\.sh$/m);
    assert.doesNotMatch(listed, /untracked|ignored$/m);
    assert.match(outcome.stderr, /1 untracked left out/);
    const plan = await home.json<WorkspacePlan>(['vm', 'run', repo, '--dry-run']);
    assert.equal(plan.headCommit, git(repo, 'rev-parse', 'HEAD'));
    assert.deepEqual([plan.branch, plan.guestPath, plan.untrackedLeft], ['trunk', '/root/repo', 1]);
    assert.equal(plan.files, git(repo, 'ls-files', '-z').split('\0').length - 1);
    await home.assertNothingLeft();
  });

  test('a copy in a VM: clean, at the right commit, with the real remote; what was left behind is told', async () => {
    const outcome = await home.run(['vm', 'run', '-d', '--name', 'dev', repo]);
    assert.equal(outcome.status, 0, outcome.stderr);
    const copy = await home.run([
      'vm',
      'exec',
      'dev',
      '--',
      'git',
      'status',
      '--porcelain',
      '--untracked-files=all',
    ]);
    assert.deepEqual([copy.status, copy.stdout.toString(), copy.stderr], [0, '', '']);
    assert.equal(
      await home.guest('dev', 'git', 'log', '-1', '--format=%H %s'),
      git(repo, 'log', '-1', '--format=%H %s'),
    );
    assert.equal(await home.guest('dev', 'git', 'branch', '--show-current'), 'trunk');
    assert.equal(
      await home.guest('dev', 'git', 'remote', 'get-url', 'origin'),
      'https://git.example.com/team/project.git',
    );
    assert.equal(await home.guest('dev', 'pwd'), '/root/repo');
    assert.match(outcome.stderr, /1 untracked file was not copied \(--include-untracked copies them\)/);
  });

  test('files are what they were: modes, links, odd names, line ends, bytes', async () => {
    const listing = [
      'find',
      '.',
      '-path',
      './.git',
      '-prune',
      '-o',
      '!',
      '-type',
      'd',
      '-printf',
      '%P|%y|%m|%s|%l\\0',
    ];
    const here = execFileSync(listing[0] ?? '', listing.slice(1), { cwd: repo, encoding: 'utf8' });
    const sorted = (text: string) =>
      text
        .split('\0')
        .filter((line) => !/^(untracked|ignored)\||^$/.test(line))
        .sort();
    assert.deepEqual(sorted(await home.ok(['vm', 'exec', 'dev', '--', ...listing])), sorted(here));
    assert.equal(await home.guest('dev', './link'), 'ran in /root/repo');
    for (const name of ['crlf.txt', 'binary', './-leading', ODD]) {
      const { stdout } = await home.run(['vm', 'exec', 'dev', '--', 'cat', name]);
      assert.deepEqual(stdout, execFileSync('cat', [name], { cwd: repo }), name);
    }
    assert.equal(await home.guest('dev', 'git', 'fsck', '--connectivity-only'), '');
  });

  test('it can be written, committed to, and is still there after stop and start', async () => {
    const script =
      'echo new > new && rm crlf.txt && echo more >> binary && git add -A && git commit -qm third && echo dirty > empty';
    await home.guest('dev', 'git', 'config', 'user.email', 'guest@example.com');
    await home.guest('dev', 'git', 'config', 'user.name', 'Guest');
    await home.guest('dev', 'sh', '-c', script);
    const state =
      'git log -1 --format=%s; git status --porcelain; cat new; ls crlf.txt 2>&1 | grep -c "No such"';
    const expected = 'third\n M empty\nnew\n1';
    assert.equal(await home.guest('dev', 'sh', '-c', state), expected);
    await home.ok(['vm', 'stop', 'dev']);
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'sh', '-c', state), expected);
    assert.equal(git(repo, 'status', '--porcelain'), '?? untracked', "the host's repository is untouched");
    await home.ok(['vm', 'delete', 'dev']);
  });

  test('dirty files go as they are, deleted ones do not; --include-untracked takes the rest, never the ignored', async () => {
    writeFileSync(join(repo, 'crlf.txt'), 'changed\r\n');
    writeFileSync(join(repo, 'staged'), 'staged\n');
    git(repo, 'add', 'staged');
    rmSync(join(repo, 'empty2'));
    const outcome = await home.run(
      [
        'vm',
        'run',
        '--rm',
        '--include-untracked',
        '.',
        '--',
        'sh',
        '-c',
        'git status --porcelain; ls; cat crlf.txt',
      ],
      { cwd: join(repo, 'src') },
    );
    assert.equal(outcome.status, 0, outcome.stderr);
    const [status, files] = [outcome.stdout.toString(), outcome.stdout.toString()];
    const expected = git(repo, 'status', '--porcelain');
    assert.ok(status.startsWith(`${expected}\n`), `${status}\nis not:\n${expected}`);
    assert.match(files, /^untracked$/m);
    assert.match(files, /^changed\r$/m);
    assert.doesNotMatch(files, /^(ignored|empty2)$/m);
    // Nothing but the progress that a slow host gets to see.
    assert.equal(outcome.stderr.replaceAll(/^.* …\n/gm, ''), '');
    git(repo, 'checkout', '--quiet', 'HEAD', '--', '.');
    git(repo, 'rm', '--quiet', '--cached', '--ignore-unmatch', 'staged');
    rmSync(join(repo, 'staged'), { force: true });
    await home.assertNothingLeft();
  });

  test('--branch and --from', async () => {
    const first = git(repo, 'rev-parse', 'HEAD~1');
    const script =
      'git rev-parse HEAD; git branch --show-current; git status --porcelain; ls empty2 2>&1 | grep -c "No such"';
    const outcome = await home.run([
      'vm',
      'run',
      '--rm',
      repo,
      '--branch',
      'try/one',
      '--from',
      'HEAD~1',
      '--',
      'sh',
      '-c',
      script,
    ]);
    assert.equal(outcome.stdout.toString(), `${first}\ntry/one\n1\n`, outcome.stderr);
    assert.equal(git(repo, 'branch', '--list'), '* trunk');
  });

  for (const [title, make, message] of [
    ['a directory that is no repository', (dir: string) => mkdirSync(dir), /not in a git repository/],
    ['a path that does not exist', () => undefined, /does not exist/],
    ['a file', (dir: string) => writeFileSync(dir, ''), /not a directory/],
    [
      'a bare repository',
      (dir: string) => void git('/', 'init', '--quiet', '--bare', dir),
      /bare repository/,
    ],
    ['a repository without a commit', (dir: string) => void git('/', 'init', '--quiet', dir), /commit/],
    ['a repository with submodules', makeSuper, /has submodules/],
    ['a damaged repository', makeDamaged, /index file smaller than expected/],
  ] as const) {
    test(`${title} is refused before anything is created`, async () => {
      const dir = join(home.dir, title.replaceAll(' ', '-'));
      make(dir);
      const { status, stderr } = await home.run(['vm', 'run', '--rm', dir, '--', 'true']);
      assert.equal(status, 125);
      assert.match(stderr, message);
      assert.match(stderr, new RegExp(title.replaceAll(' ', '-')), 'it names the path');
      assert.doesNotMatch(stderr, /internal error/);
      await home.assertNothingLeft();
    });
  }

  test("another user's repository is refused, and what to do is said", {
    skip: process.getuid?.() !== 0,
  }, async () => {
    const dir = join(home.dir, 'theirs');
    git('/', 'clone', '--quiet', repo, dir);
    execFileSync('chown', ['-R', '65534:65534', dir]);
    const { status, stderr } = await home.run(['vm', 'run', '--rm', dir, '--', 'true']);
    assert.equal(status, 125);
    assert.match(stderr, /another user owns it\n.*safe\.directory/);
    await home.assertNothingLeft();
  });
});

function makeSuper(dir: string): void {
  const inner = `${dir}-inner`;
  makeRepo(inner);
  git('/', 'init', '--quiet', dir);
  git(dir, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', inner, 'module');
  git(dir, 'commit', '--quiet', '--message', 'super');
}

function makeDamaged(dir: string): void {
  makeRepo(dir);
  writeFileSync(join(dir, '.git', 'index'), 'damaged');
}
