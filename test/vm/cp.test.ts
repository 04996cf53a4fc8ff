/** `vm cp` with a real guest: what the tests with the agent alone (test/channel/vm-copy.test.ts) cannot show. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { VmCopied } from '../../src/api/results/vm.ts';
import { settled, TestHome } from '../helpers/test-home.ts';

const MIB = 1024 * 1024;
/** Sleeps nobody waits for: what a test stops, it stops in the middle of. */
const BIG = 64 * MIB;

describe('vm cp', () => {
  let home: TestHome;
  let here: string;

  before(async () => {
    home = TestHome.warm(
      '[[file_sync]]\nhost = "~/.npmrc"\nguest = "~/.npmrc"\n[[file_sync]]\nhost = "~/missing"\nguest = "~/x"\n',
    );
    here = join(home.dir, 'here');
    // The daemon's user has a home of its own.
    mkdirSync(join(home.dir, 'user'));
    home.env['HOME'] = join(home.dir, 'user');
    writeFileSync(join(home.dir, 'user/.npmrc'), 'token', { mode: 0o644 });
    writeFileSync(join(home.dir, 'user/.gitconfig'), '[user]\nname = First\nemail = first@example\n');
    mkdirSync(join(here, 'repo'), { recursive: true });
    const git = (...argv: string[]) =>
      execFileSync('git', ['-c', 'user.name=n', '-c', 'user.email=e', ...argv], { cwd: join(here, 'repo') });
    git('init', '-q');
    writeFileSync(join(here, 'repo/tracked'), 'as committed');
    git('add', '.');
    git('commit', '-qm', 'c');
    const created = await home.run(['vm', 'create', '--name', 'dev', join(here, 'repo')]);
    assert.equal(created.status, 0, created.stderr);
    assert.match(created.stderr, /file_sync: ~\/missing does not exist/);
  });
  after(() => home[Symbol.asyncDispose]());

  const cp = (...argv: string[]) => home.run(['vm', 'cp', ...argv], { cwd: here });
  const guestNames = async (dir: string) =>
    (await home.guest('dev', 'ls', '-A', dir)).split('\n').filter(Boolean);

  test('a tree there and back, onto the overlay of a workspace too', async () => {
    mkdirSync(join(here, 'tree/sub'), { recursive: true });
    writeFileSync(join(here, 'tree/run'), 'x', { mode: 0o750 });
    writeFileSync(join(here, 'tree/sub/new\nline'), randomBytes(200_000));
    symlinkSync('/etc/passwd', join(here, 'tree/link'));
    for (const to of ['/root/plain', '/root/repo/tree']) {
      const copied = JSON.parse((await cp('--json', 'tree', `dev:${to}`)).stdout.toString()) as VmCopied;
      assert.deepEqual([copied.files, copied.directories, copied.links], [2, 2, 1]);
      assert.equal(
        await home.guest('dev', 'stat', '-c', '%a %U:%G %y', `${to}/run`),
        await statLine('tree/run'),
      );
      const back = `back-${to.length}`;
      await cp(`dev:${to}`, back);
      execFileSync('git', ['diff', '--no-index', '--exit-code', 'tree', back], { cwd: here });
      assert.equal(statSync(join(here, back, 'run')).mode & 0o777, 0o750);
      assert(lstatSync(join(here, back, 'link')).isSymbolicLink());
    }
    // What the overlay has below is replaced, and no name is left.
    writeFileSync(join(here, 'tracked'), 'as copied');
    assert.equal((await cp('tracked', 'dev:/root/repo/')).status, 0);
    assert.equal(await home.guest('dev', 'cat', '/root/repo/tracked'), 'as copied');
    assert.deepEqual(await guestNames('/root/repo'), ['.git', 'tracked', 'tree']);
  });

  async function statLine(path: string): Promise<string> {
    const nanoseconds = execFileSync('date', ['-u', '-r', join(here, path), '+%F %T.%N +0000'], {
      encoding: 'utf8',
    });
    return `750 root:root ${nanoseconds.trim()}`;
  }

  test('pipes: stdin to a file, a file to stdout, a tree refused with what to run instead', async () => {
    const bytes = randomBytes(MIB + 1);
    await home.ok(['vm', 'cp', '-', 'dev:piped'], { input: bytes });
    assert.ok((await home.run(['vm', 'cp', 'dev:piped', '-'])).stdout.equals(bytes));
    const refused = await cp('dev:/root/repo', '-');
    assert.deepEqual([refused.status, refused.stdout.length], [1, 0]);
    assert.match(refused.stderr, /banger vm exec dev -- tar c -C \/root repo/);
    assert.equal((await cp('dev:a', 'dev:b')).status, 2);
    assert.equal((await home.run(['vm', 'cp', '-', 'dev:/root/repo'], { input: 'x' })).status, 1);
  });

  test('a full disk in the guest is told, and holds nothing of the file', async () => {
    await home.guest('dev', 'sh', '-c', 'mkdir /mnt/small && mount -t tmpfs -o size=1m none /mnt/small');
    writeFileSync(join(here, 'big'), Buffer.alloc(BIG, 1));
    const full = await cp('big', 'dev:/mnt/small');
    assert.equal(full.status, 1);
    assert.match(full.stderr, /no space left.*\nwhat is full there: banger vm exec dev -- df -h\n/i);
    assert.deepEqual(await guestNames('/mnt/small'), []);
  });

  test('Ctrl-C in the middle, both ways', async () => {
    const there = home.start(['vm', 'cp', join(here, 'big'), 'dev:/root/repo/big']);
    await settled(async () =>
      (await guestNames('/root/repo')).some((name) => name.startsWith('.banger-new-')),
    );
    there.child.kill('SIGINT');
    assert.equal((await there.done).status, 130);
    await settled(async () => (await guestNames('/root/repo')).length === 3);
    assert.deepEqual(await guestNames('/root/repo'), ['.git', 'tracked', 'tree']);

    await home.guest('dev', 'sh', '-c', 'yes | head -c 67108864 > /dev/shm/big');
    const out = join(here, 'out');
    mkdirSync(out);
    const back = home.start(['vm', 'cp', 'dev:/dev/shm/big', out]);
    await settled(() => readdirSync(out).some((name) => name.startsWith('.banger-cp-')));
    back.child.kill('SIGINT');
    assert.equal((await back.done).status, 130);
    assert.deepEqual(readdirSync(out), []);
  });

  test('a daemon that is killed in the middle, both ways: no part under the name, and the next copy sweeps', async () => {
    const out = join(here, 'killed');
    mkdirSync(out);
    const back = home.start(['vm', 'cp', 'dev:/dev/shm/big', out]);
    await settled(() => readdirSync(out).length > 0);
    process.kill(await home.daemonPid(), 'SIGKILL');
    assert.notEqual((await back.done).status, 0);
    assert.match(readdirSync(out).join('/'), /^\.banger-cp-[^/]*$/);
    await home.ok(['vm', 'cp', 'dev:/root/repo/tracked', out]);
    assert.deepEqual(readdirSync(out), ['tracked']);
    assert.equal(readFileSync(join(out, 'tracked'), 'utf8'), 'as copied');

    const there = home.start(['vm', 'cp', join(here, 'big'), 'dev:/root/repo/big']);
    await settled(async () =>
      (await guestNames('/root/repo')).some((name) => name.startsWith('.banger-new-')),
    );
    process.kill(await home.daemonPid(), 'SIGKILL');
    assert.notEqual((await there.done).status, 0);
    await settled(async () => (await guestNames('/root/repo')).length === 3);
    assert.deepEqual(await guestNames('/root/repo'), ['.git', 'tracked', 'tree']);
  });

  test('files of the home and who commits, at each start; what the guest says itself stays', async () => {
    const facts = async (): Promise<string> =>
      await home.guest(
        'dev',
        'sh',
        '-c',
        'stat -c "%a %U" /root/.npmrc; cat /root/.npmrc; grep -c First /etc/gitconfig; :',
      );
    assert.equal(await facts(), '600 root\ntoken1');
    await home.guest('dev', 'sh', '-c', 'echo changed > /root/.npmrc; echo "[user]" > /etc/gitconfig; sync');
    await home.ok(['vm', 'restart', 'dev']);
    assert.equal(await facts(), '600 root\ntoken0');
  });

  test('a VM that is deleted in the middle ends the copy', async () => {
    const there = home.start(['vm', 'cp', join(here, 'big'), 'dev:/root/big']);
    await settled(
      async () => (await home.json<readonly { method: string }[]>(['operation', 'list'])).length > 0,
    );
    await home.ok(['vm', 'delete', 'dev']);
    assert.equal((await there.done).status, 1);
  });
});
