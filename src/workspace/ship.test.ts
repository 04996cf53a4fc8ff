import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  linkSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  emptyImage,
  gitIn,
  initRepo,
  plan,
  repoAt,
  runner,
  shipAndUnpack,
  smallRepo,
  statusOf,
  type TestRepo,
  temporaryDir,
  treeOf,
  unpack,
} from '../../test/helpers/host-repo.ts';
import type { CommandRunner } from '../host/runner.ts';
import { buildWorkspaceImage, type ShipOptions } from './ship.ts';

/** The guest has the same files and the same status as the host, and the host has no untracked ones. */
async function assertSame(t: TestContext, repo: TestRepo): Promise<string> {
  const guest = await shipAndUnpack(t, await plan(repo.dir));
  assert.deepEqual(treeOf(guest), treeOf(repo.dir));
  assert.equal(await statusOf(guest), await statusOf(repo.dir));
  assert.equal(
    await gitIn(guest, 'log', '-1', '--format=%H %s'),
    await repo.git('log', '-1', '--format=%H %s'),
  );
  await gitIn(guest, 'fsck', '--strict');
  return guest;
}

/** Content hashes, sizes and times of everything below a directory. */
function fingerprint(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const path = join(dir, name);
      const stat = lstatSync(path, { bigint: true });
      const content = stat.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
      return `${name} ${stat.mode} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs} ${content}`;
    });
}

/** Sets all files of a repository into the past, so that git need not doubt its index. */
async function age(repo: TestRepo): Promise<void> {
  for (const path of (await repo.git('ls-files')).trim().split('\n'))
    utimesSync(join(repo.dir, path), 1e9, 1e9);
  await repo.git('update-index', '--refresh');
}

test('a clean repository is clean in the guest, file by file', async (t) => {
  const repo = await smallRepo(t);
  const guest = await assertSame(t, repo);
  assert.equal(await statusOf(guest), '');
  assert.equal((await gitIn(guest, 'branch', '--show-current')).trim(), 'main');
  const other = join(guest, '.git');
  assert.deepEqual(readdirSync(other).sort(), ['HEAD', 'config', 'index', 'objects', 'packed-refs', 'refs']);
});

test('git in the guest believes its index without reading a file', async (t) => {
  const repo = await smallRepo(t);
  for (const makeOld of [false, true]) {
    if (makeOld) await age(repo);
    const guest = await shipAndUnpack(t, await plan(repo.dir));
    // Same size, same second, other bytes: only a look inside would tell.
    const path = join(guest, 'readme.md');
    const { atime, mtime } = statSync(path);
    writeFileSync(path, 'HELLO\n');
    utimesSync(path, atime, mtime);
    assert.equal(await statusOf(guest), '', makeOld ? 'old files' : 'files as young as the index');
  }
});

test('a dirty repository shows the same changes', async (t) => {
  const repo = await smallRepo(t);
  repo.write('staged-and-changed', 'one\n');
  repo.write('staged', 'new file, not committed\n');
  await repo.git('add', '.');
  repo.write('staged-and-changed', 'two\n');
  repo.write('readme.md', 'olleh\n');
  unlinkSync(join(repo.dir, 'src/main.ts'));
  chmodSync(join(repo.dir, 'run.sh'), 0o644);
  await repo.git('add', '--intent-to-add', '.');
  const guest = await assertSame(t, repo);
  assert.equal(await gitIn(guest, 'show', ':staged'), 'new file, not committed\n');
  assert(!existsSync(join(guest, 'src')), 'a directory whose files are gone is not made');
});

test('a change of the same size in the second of the commit is not missed', async (t) => {
  const repo = await smallRepo(t);
  const path = join(repo.dir, 'readme.md');
  const { mtime } = statSync(path);
  writeFileSync(path, 'HELLO\n');
  utimesSync(path, mtime, mtime);
  const guest = await shipAndUnpack(t, await plan(repo.dir));
  assert.equal(await statusOf(guest), ' M readme.md\0');
});

test('ships untracked files when asked, never a secret', async (t) => {
  const repo = await smallRepo(t);
  repo.write('.gitignore', 'build/\n');
  await repo.commit();
  repo.write('.env', 'TOKEN=secret');
  repo.write('build/out.o', 'ignored');
  repo.write('notes/todo');
  const without = await shipAndUnpack(t, await plan(repo.dir));
  assert.deepEqual([...treeOf(without).keys()].sort(), ['.gitignore', 'readme.md', 'run.sh', 'src/main.ts']);
  assert.deepEqual(readdirSync(without).sort(), ['.git', '.gitignore', 'readme.md', 'run.sh', 'src']);
  unlinkSync(join(repo.dir, '.env'));
  const withThem = await shipAndUnpack(t, await plan(repo.dir, { includeUntracked: true }));
  assert(treeOf(withThem).has('notes/todo'));
  assert(!existsSync(join(withThem, 'build')));
  assert.equal(await statusOf(withThem), '?? notes/todo\0');
});

test('keeps odd names, modes, links and bytes', async (t) => {
  const repo = await smallRepo(t);
  const names = [
    'new\nline',
    `quo"te's`,
    '-dash',
    '--help',
    'tab\there',
    'späce and ünïcode',
    '\\back',
    '*',
    '#',
  ];
  for (const name of names) repo.write(`odd/${name}`);
  writeFileSync(Buffer.from(`${repo.dir}/not-utf8-\xe9\xff`, 'latin1'), 'latin1 name');
  repo.write('a-b/x');
  repo.write('a/x');
  repo.write('a.c');
  repo.write('empty', '');
  repo.write('zeros', Buffer.alloc(300_000));
  repo.write('block', Buffer.alloc(128 * 1024, 'x'));
  repo.write('private', 'p', 0o600);
  repo.write('shared', 's', 0o664);
  chmodSync(join(repo.dir, 'shared'), 0o664);
  symlinkSync('readme.md', join(repo.dir, 'link'));
  symlinkSync('/etc/passwd', join(repo.dir, 'absolute'));
  symlinkSync('../../nowhere', join(repo.dir, 'dangling'));
  symlinkSync('src', join(repo.dir, 'directory-link'));
  symlinkSync(Buffer.from('odd \xe9\n', 'latin1'), join(repo.dir, 'odd-target'));
  await repo.commit();
  await assertSame(t, repo);
});

test('drops set-user-ID: the owner in the guest is root', async (t) => {
  const repo = await smallRepo(t);
  chmodSync(join(repo.dir, 'run.sh'), 0o6755);
  const guest = await shipAndUnpack(t, await plan(repo.dir));
  assert.equal(statSync(join(guest, 'run.sh')).mode & 0o7777, 0o755);
});

test('times before 1970 and after 2106 come as near as they can', async (t) => {
  const repo = await smallRepo(t);
  await runner.run(['touch', '--date=@-5', join(repo.dir, 'run.sh')]);
  utimesSync(join(repo.dir, 'readme.md'), 2 ** 32 + 5, 2 ** 32 + 5);
  const guest = await shipAndUnpack(t, await plan(repo.dir));
  assert.equal(statSync(join(guest, 'run.sh')).mtimeMs, 0);
  assert.equal(statSync(join(guest, 'readme.md')).mtimeMs, (2 ** 32 - 2) * 1000);
  assert.equal(await statusOf(guest), '');
});

test('CRLF stays as it is in the working tree, under every setting', async (t) => {
  for (const [autocrlf, attributes] of [
    ['true', ''],
    ['input', ''],
    ['false', '*.txt text eol=crlf\n'],
  ] as const) {
    const repo = await smallRepo(t);
    await repo.git('config', 'core.autocrlf', autocrlf);
    repo.write('.gitattributes', attributes);
    repo.write('dos.txt', 'one\r\ntwo\r\n');
    repo.write('mixed.bin', Buffer.from('\0a\r\nb\n'));
    await repo.git('-c', 'core.safecrlf=false', 'add', '.');
    await repo.commit();
    for (const old of [false, true]) {
      if (old) await age(repo);
      const guest = await assertSame(t, repo);
      assert.equal(readFileSync(join(guest, 'dos.txt'), 'latin1'), 'one\r\ntwo\r\n');
    }
  }
});

test('a tracked file behind a symbolic link is not read', async (t) => {
  const repo = await smallRepo(t);
  const outside = await temporaryDir(t);
  writeFileSync(join(outside, 'main.ts'), 'secret of the host');
  rmSync(join(repo.dir, 'src'), { recursive: true });
  symlinkSync(outside, join(repo.dir, 'src'));
  const guest = await shipAndUnpack(t, await plan(repo.dir));
  assert.deepEqual([...treeOf(guest).keys()].sort(), ['readme.md', 'run.sh']);
});

test('a link that replaces a directory after planning is not followed', async (t) => {
  const repo = await smallRepo(t);
  const planned = await plan(repo.dir);
  rmSync(join(repo.dir, 'src'), { recursive: true });
  symlinkSync('/', join(repo.dir, 'src'));
  rmSync(join(repo.dir, 'run.sh'));
  symlinkSync('/etc/passwd', join(repo.dir, 'run.sh'));
  await runner.run(['mkfifo', join(repo.dir, 'fifo')]);
  rmSync(join(repo.dir, 'readme.md'));
  await runner.run(['mkfifo', join(repo.dir, 'readme.md')]);
  const guest = await shipAndUnpack(t, planned);
  assert.deepEqual([...treeOf(guest).keys()], ['run.sh']);
  assert(lstatSync(join(guest, 'run.sh')).isSymbolicLink());
});

test('the history is ten generations deep, as a shallow fetch makes it', async (t) => {
  const repo = await smallRepo(t);
  for (let number = 0; number < 15; number += 1) {
    repo.write('readme.md', `${number}\n`);
    await repo.commit(`main ${number}`);
    if (number % 4 !== 1) continue;
    await repo.git('checkout', '--quiet', '-b', `side-${number}`, 'HEAD~1');
    repo.write(`side-${number}`);
    await repo.commit(`side ${number}`);
    await repo.git('checkout', '--quiet', 'main');
    await repo.git('merge', '--quiet', '--no-edit', `side-${number}`);
  }
  const guest = await assertSame(t, repo);
  const fetched = join(await temporaryDir(t), 'fetched');
  await gitIn(
    '/',
    'clone',
    '--quiet',
    '--depth=10',
    '--no-local',
    '--branch=main',
    `file://${repo.dir}`,
    fetched,
  );
  const log = ['rev-list', '--parents', 'HEAD'];
  assert.equal(await gitIn(guest, ...log), await gitIn(fetched, ...log));
  assert.equal(
    readFileSync(join(guest, '.git/shallow'), 'latin1'),
    readFileSync(join(fetched, '.git/shallow'), 'latin1'),
  );
});

test('ships a clone that is shallow itself, and one with alternates', async (t) => {
  const repo = await smallRepo(t);
  for (const name of ['two', 'three', 'four']) {
    repo.write(name);
    await repo.commit(name);
  }
  const dir = await temporaryDir(t);
  await gitIn('/', 'clone', '--quiet', '--depth=2', `file://${repo.dir}`, join(dir, 'shallow'));
  const shallow = await assertSame(t, repoAt(join(dir, 'shallow')));
  assert.equal((await gitIn(shallow, 'rev-list', '--count', 'HEAD')).trim(), '2');
  await gitIn('/', 'clone', '--quiet', '--shared', repo.dir, join(dir, 'shared'));
  const shared = await assertSame(t, repoAt(join(dir, 'shared')));
  assert(!existsSync(join(shared, '.git/objects/info/alternates')));
});

test('ships a partial clone without fetching what it lacks', async (t) => {
  const repo = await smallRepo(t);
  repo.write('readme.md', 'second\n');
  await repo.commit();
  await repo.git('config', 'uploadpack.allowFilter', 'true');
  const clone = join(await temporaryDir(t), 'partial');
  await gitIn('/', 'clone', '--quiet', '--filter=blob:none', `file://${repo.dir}`, clone);
  const guest = await shipAndUnpack(t, await plan(clone));
  assert.equal(await statusOf(guest), '');
  assert.equal((await gitIn(guest, 'rev-list', '--count', 'HEAD')).trim(), '2');
});

test('ships linked working trees, detached heads and SHA-256 repositories', async (t) => {
  const repo = await smallRepo(t);
  const linked = join(await temporaryDir(t), 'linked');
  await repo.git('worktree', 'add', '--quiet', '-b', 'topic/a', linked);
  const guest = await assertSame(t, repoAt(linked));
  assert.equal((await gitIn(guest, 'branch', '--show-current')).trim(), 'topic/a');
  await repo.git('checkout', '--quiet', '--detach');
  const detached = await assertSame(t, repo);
  assert.equal((await gitIn(detached, 'branch', '--show-current')).trim(), '');
  const modern = await initRepo(join(await temporaryDir(t), 'sha256'), '--object-format=sha256');
  modern.write('file');
  await modern.commit();
  modern.write('other');
  await modern.git('add', '.');
  const shipped = await assertSame(t, modern);
  assert.equal((await gitIn(shipped, 'rev-parse', '--show-object-format')).trim(), 'sha256');
});

test('an unresolved merge and a sparse checkout look the same', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('checkout', '--quiet', '-b', 'other');
  repo.write('readme.md', 'theirs\n');
  await repo.commit();
  await repo.git('checkout', '--quiet', 'main');
  repo.write('readme.md', 'ours\n');
  await repo.commit();
  await repo.git('merge', '--quiet', 'other').catch(() => {});
  assert.match(await statusOf(repo.dir), /^UU /);
  await assertSame(t, repo);
  await repo.git('reset', '--quiet', '--hard');
  await repo.git('sparse-checkout', 'set', '--no-cone', '/readme.md');
  assert(!existsSync(join(repo.dir, 'src')));
  await assertSame(t, repo);
});

test('--branch starts a branch with the working tree as it is', async (t) => {
  const repo = await smallRepo(t);
  repo.write('readme.md', 'changed, longer\n');
  const guest = await shipAndUnpack(t, await plan(repo.dir, { branch: 'work/new' }));
  assert.equal((await gitIn(guest, 'branch', '--show-current')).trim(), 'work/new');
  assert.deepEqual(treeOf(guest), treeOf(repo.dir));
  assert.equal(await statusOf(guest), ' M readme.md\0');
});

test('--from ships the files of that commit, whatever the working tree holds', async (t) => {
  const repo = await smallRepo(t);
  repo.write('.gitattributes', '*.bat text eol=crlf\n*.dat filter=evil\n*.dat2 filter=ev=il\n');
  repo.write('do.bat', 'one\n');
  repo.write('x.dat', 'stored\n');
  repo.write('x.dat2', 'stored\n');
  await repo.git('config', 'filter.evil.clean', 'cat');
  const marker = join(await temporaryDir(t), 'ran');
  await repo.commit('second');
  await repo.git('config', 'filter.evil.smudge', `touch ${marker}; cat`);
  await repo.git('config', 'filter.evil.required', 'true');
  await repo.git('config', 'filter.ev=il.smudge', `touch ${marker}; cat`);
  repo.write('third');
  await repo.commit('third');
  repo.write('readme.md', 'changed, longer\n');
  const before = fingerprint(repo.dir);
  const guest = await shipAndUnpack(t, await plan(repo.dir, { branch: 'old', from: 'HEAD~1' }));
  assert.deepEqual(fingerprint(repo.dir), before);
  assert.equal(await gitIn(guest, 'log', '-1', '--format=%s %D'), 'second HEAD -> old\n');
  assert.equal(await statusOf(guest), '');
  assert.equal(readFileSync(join(guest, 'readme.md'), 'latin1'), 'hello\n');
  assert.equal(readFileSync(join(guest, 'do.bat'), 'latin1'), 'one\r\n');
  assert(!existsSync(join(guest, 'third')));
  assert(!existsSync(marker), 'a filter ran');
});

test('the remote is the real one, without credentials; settings that matter come along', async (t) => {
  const repo = await smallRepo(t);
  await repo.git('remote', 'add', 'origin', 'https://me:hunter2@example.com/me/a.git');
  await repo.git('config', 'credential.helper', 'store --file=/hunter2');
  await repo.git('config', 'http.extraHeader', 'X: hunter2');
  repo.write('.git/hooks/post-checkout', '#!/bin/sh\necho hunter2\n', 0o755);
  const guest = await shipAndUnpack(t, await plan(repo.dir));
  assert.equal(await gitIn(guest, 'remote', 'get-url', 'origin'), 'https://example.com/me/a.git\n');
  assert.equal(await gitIn(guest, 'config', 'user.email'), 'test@example.com\n');
  assert(!existsSync(join(guest, '.git/hooks')));
  const everything = await runner.run(['grep', '-r', 'hunter2', guest], { okStatuses: [0, 1] });
  assert.equal(everything.stdout.toString(), '');
});

test('a repository below a path with separators and quotes in it', async (t) => {
  const repo = await initRepo(join(await temporaryDir(t), 'a:b"c\\d ü'));
  repo.write('file');
  await repo.commit();
  await assertSame(t, repo);
});

test('the host repository is byte for byte as before', async (t) => {
  const repo = await smallRepo(t);
  // Times that make git want to refresh its index.
  utimesSync(join(repo.dir, 'readme.md'), 1e9, 1e9);
  repo.write('run.sh', '#!/bin/zz\n', 0o755);
  const before = fingerprint(repo.dir);
  await shipAndUnpack(t, await plan(repo.dir, { includeUntracked: true }));
  assert.deepEqual(fingerprint(repo.dir), before);
});

test('many files in one directory, and a deep one', async (t) => {
  const repo = await smallRepo(t);
  for (let number = 0; number < 3000; number += 1)
    repo.write(`many/file-with-a-long-name-${number}`, `${number}`);
  repo.write(`${'deep/'.repeat(200)}file`);
  await repo.commit();
  await assertSame(t, repo);
});

async function shipOptions(t: TestContext, repo: TestRepo): Promise<ShipOptions & { scratchDir: string }> {
  const dir = await temporaryDir(t);
  return {
    plan: await plan(repo.dir),
    imagePath: await emptyImage(dir),
    scratchDir: join(dir, 'scratch'),
    runner,
    signal: new AbortController().signal,
    onProgress: () => {},
  };
}

function readSuperblock(path: string): Buffer {
  const fd = openSync(path, 'r');
  const bytes = Buffer.alloc(96);
  readSync(fd, bytes, 0, 96, 0);
  closeSync(fd);
  return bytes;
}

test('writes in place: same inode, same size, over an older image', async (t) => {
  const repo = await smallRepo(t);
  repo.write('large', Buffer.alloc(3_000_000, 'y'));
  await repo.git('add', '.');
  const options = await shipOptions(t, repo);
  const before = statSync(options.imagePath);
  const first = await buildWorkspaceImage(options);
  const small = await smallRepo(t);
  const second = await buildWorkspaceImage({ ...options, plan: await plan(small.dir) });
  assert(second.sizeBytes < first.sizeBytes);
  assert.equal(second.files, 3);
  const after = statSync(options.imagePath);
  assert.deepEqual([after.ino, after.size], [before.ino, before.size]);
  const guest = await unpack(options.imagePath, join(options.scratchDir, 'guest'));
  assert.deepEqual(treeOf(guest), treeOf(small.dir));
});

test('an image that has another name, which is another disk, is not written to', async (t) => {
  const options = await shipOptions(t, await smallRepo(t));
  linkSync(options.imagePath, `${options.imagePath}-of-another`);
  const before = statSync(options.imagePath);
  await assert.rejects(buildWorkspaceImage(options), /is not this VM's alone/);
  const after = statSync(options.imagePath);
  assert.deepEqual([after.mtimeMs, after.blocks], [before.mtimeMs, before.blocks]);
});

test('an image that is too small is an error, and no half image is left', async (t) => {
  const repo = await smallRepo(t);
  repo.write('large', Buffer.alloc(3_000_000, 'y'));
  await repo.git('add', '.');
  const options = await shipOptions(t, repo);
  await buildWorkspaceImage(options);
  const fd = openSync(options.imagePath, 'r+');
  ftruncateSync(fd, 1_000_000);
  closeSync(fd);
  await assert.rejects(buildWorkspaceImage(options), { code: 'limit_exceeded' });
  assert.equal(statSync(options.imagePath).size, 1_000_000);
  assert.deepEqual(readSuperblock(options.imagePath), Buffer.alloc(96));
  assert.deepEqual(readdirSync(options.scratchDir), []);
});

test('a failing git is the error that is shown, and nothing is left', async (t) => {
  const repo = await smallRepo(t);
  const options = await shipOptions(t, repo);
  const objects = join(repo.dir, '.git/objects');
  rmSync(objects, { recursive: true });
  mkdirSync(objects);
  await assert.rejects(buildWorkspaceImage(options), { code: 'io_error', message: /git failed/ });
  assert.deepEqual(readdirSync(options.scratchDir), []);
  assert.deepEqual(readSuperblock(options.imagePath), Buffer.alloc(96));
});

test('a file that grows, shrinks or goes between plan and shipping is taken as it is then', async (t) => {
  const repo = await smallRepo(t);
  const options = await shipOptions(t, repo);
  repo.write('readme.md', 'x'.repeat(200_000));
  repo.write('run.sh', '', 0o755);
  unlinkSync(join(repo.dir, 'src/main.ts'));
  const shipped = await buildWorkspaceImage(options);
  assert.equal(shipped.files, 2);
  const guest = await unpack(options.imagePath, join(options.scratchDir, 'guest'));
  assert.deepEqual(treeOf(guest), treeOf(repo.dir));
  assert.equal(await statusOf(guest), await statusOf(repo.dir));
});

test('cancelled at any point, it stops and leaves nothing', async (t) => {
  const repo = await smallRepo(t);
  for (let number = 0; number < 600; number += 1)
    repo.write(`many/${number}`, Buffer.alloc(20_000, `${number}`));
  await repo.commit();
  const moments: Record<string, (abort: () => void) => Partial<ShipOptions>> = {
    'before it begins': (abort) => {
      abort();
      return {};
    },
    'while files are read': (abort) => ({ onProgress: abort }),
    'when git packs': (abort) => ({ runner: runnerThat('pack-objects', abort) }),
    'when git lists commits': (abort) => ({ runner: runnerThat('rev-list', abort) }),
  };
  for (const [moment, arrange] of Object.entries(moments)) {
    const options = await shipOptions(t, repo);
    const controller = new AbortController();
    const special = arrange(() => controller.abort());
    const shipping = buildWorkspaceImage({ ...options, signal: controller.signal, ...special });
    await assert.rejects(shipping, { code: 'cancelled' }, moment);
    const left = existsSync(options.scratchDir) ? readdirSync(options.scratchDir) : [];
    assert.deepEqual(left, [], moment);
    assert.deepEqual(readSuperblock(options.imagePath), Buffer.alloc(96), moment);
  }
});

/** Calls back once git is asked to do something, and then does it. */
function runnerThat(command: string, callback: () => void): CommandRunner {
  return {
    run: (argv, options) => {
      const running = runner.run(argv, options);
      if (argv.includes(command)) callback();
      return running;
    },
  };
}
