/**
 * Whatever ends a `workspace prepare`, at whatever step: every file of the copy is what it was or what it is to be, nothing waits for
 * a lock, and the next one brings all of it.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkspacePrepared } from '../../src/api/results/workspace.ts';
import { drop, fileOf, fork } from '../helpers/copies.ts';
import { initRepo, type TestRepo, treeOf } from '../helpers/host-repo.ts';
import { callUntil, type Interruption } from '../helpers/interrupted.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';
import { atMoments } from '../helpers/thorough.ts';

const FILES = 120;
const FILE_BYTES = 64 * 1024;

/** How far it is let come: as many files sent. Null: until it says what it does. */
type Moment = number | null;

describe('kills while a workspace is prepared', () => {
  let home: TestHome;
  let repo: TestRepo;
  let version = 0;
  /** Every file becomes another, whole: its first byte is repeated to its end. */
  const change = (): void => {
    version += 1;
    for (let number = 0; number < FILES; number += 1) {
      const byte = 'abcdefghijklmnopqrstuvwxyz'.charCodeAt(version);
      repo.write(`many/${number % 7}/${number}`, Buffer.alloc(FILE_BYTES + version, byte));
    }
  };
  before(async () => {
    home = TestHome.warm();
    repo = await initRepo(join(home.dir, 'project'));
    change();
    await repo.commit('first');
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  const prepareUntil = async (
    moment: Moment,
    what: (how: Interruption) => Promise<void>,
  ): Promise<string | undefined> =>
    await callUntil(
      home,
      'workspace.prepare',
      { ref: 'dev', path: repo.dir },
      ({ step, done = 0 }) => step === 'workspace' && (moment === null || done >= moment),
      what,
    );
  /** The files of the copy as they are. */
  const copyFiles = async (): Promise<Map<string, string>> => {
    const dir = join(home.dir, 'seen');
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const { stdout } = await home.run([
      'vm',
      'exec',
      'dev',
      '--',
      'tar',
      'c',
      '-C',
      '/root/repo',
      '--exclude=./.git',
      '.',
    ]);
    execFileSync('tar', ['x', '-C', dir], { input: stdout });
    return treeOf(dir);
  };
  const assertWhole = async (): Promise<void> => {
    await copyFiles();
    const seen = join(home.dir, 'seen', 'many');
    const names = readdirSync(seen, { recursive: true, encoding: 'utf8' }).map((name) => join(seen, name));
    const files = names.filter((name) => statSync(name).isFile());
    assert.equal(files.length, FILES, 'none is missing, and none has another name');
    for (const name of files) {
      const bytes = readFileSync(name);
      assert.ok(
        bytes.every((byte) => byte === bytes[0]),
        `${name} is a mixture`,
      );
      assert.equal(
        bytes.length,
        FILE_BYTES + 'abcdefghijklmnopqrstuvwxyz'.indexOf(String.fromCharCode(bytes[0] ?? 0)),
      );
    }
  };
  /** The next one brings it all, and nothing is left of those before. */
  const assertRecovers = async (): Promise<void> => {
    await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev', repo.dir]);
    assert.deepEqual(await copyFiles(), treeOf(repo.dir));
    // It waits for what goes on behind the answer.
    await home.json(['vm', 'workspace', 'status', 'dev']);
    assert.equal(await home.guest('dev', 'git', 'diff', '--stat', 'refs/banger/shipped'), '');
    const again = await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev']);
    assert.equal(again.outcome, 'unchanged');
    const scratch = join(home.dir, 'state', 'scratch');
    await settled(() => readdirSync(scratch).length === 0);
    assert.equal(await home.guest('dev', 'find', '/root/repo', '-name', '.banger*'), '');
  };

  test('a first copy that was cut off is written anew, in the VM and in copies made of it meanwhile', async () => {
    assert.match((await prepareUntil(null, async ({ abort }) => abort())) ?? '', /cancelled/);
    const diskOf = async (vm: string): Promise<string> => join((await home.show(vm)).vmDir, 'transfer.img');
    // The beginning of an image, however fast the host was.
    writeFileSync(await diskOf('dev'), Buffer.alloc(FILE_BYTES, 'x'), { flag: 'r+', flush: true });
    await home.ok(['vm', 'snapshot', 'create', 'dev', '--disk-only', '--name', 'between']);
    const [copy = ''] = await fork(home, 'dev', 1);
    assert.equal(statSync(await diskOf('dev')).nlink, 1);
    assert.equal(statSync(await diskOf(copy)).blocks, 0);
    linkSync(await diskOf(copy), join(home.dir, 'another-name'));
    const refused = await home.run(['vm', 'workspace', 'prepare', copy, repo.dir]);
    assert.match(refused.stderr, /belongs to a snapshot or a copy of it, too\n.*banger vm restart/);
    await home.ok(['vm', 'restart', copy]);
    await home.ok(['vm', 'workspace', 'prepare', copy, repo.dir]);
    assert.equal(await home.guest(copy, 'git', 'status', '--porcelain'), '');
    assert.equal(statSync(join(home.dir, 'another-name')).blocks, 0);
    await drop(home, [copy]);
    await home.ok(['vm', 'snapshot', 'delete', 'between']);
  });

  const unplaced = async (vm: string): Promise<boolean> => (await home.show(vm)).workspace?.unplaced === true;

  test('one cancelled while the guest mounts it is no second time written to that disk, and is mounted', async () => {
    const [copy = ''] = await fork(home, 'dev', 1);
    await home.guest(copy, 'touch', '/root/file');
    const refused = await home.run([
      'vm',
      'workspace',
      'prepare',
      copy,
      repo.dir,
      '--guest-path',
      '/root/file/repo',
    ]);
    assert.match(refused.stderr, /cannot mount .* in the guest/);
    assert.equal((await home.show(copy)).workspace, null);
    const handles = readFileSync(join((await home.show(copy)).vmDir, 'handles.json'), 'utf8');
    const { pid: qemu } = JSON.parse(handles) as { pid: number };
    process.kill(qemu, 'SIGSTOP');
    const error = await callUntil(
      home,
      'workspace.prepare',
      { ref: copy, path: repo.dir, force: true },
      ({ text }) => text === 'putting the copy in its place',
      async ({ abort }) => abort(),
    ).finally(() => process.kill(qemu, 'SIGCONT'));
    assert.match(error ?? '', /cancelled/);
    assert.ok(await unplaced(copy));
    // The guest did what it had been asked to.
    await home.guest(copy, 'umount', '/root/repo', '/var/lib/banger/workspace/lower');
    const again = await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', copy]);
    assert.equal(again.outcome, 'unchanged');
    assert.equal(await home.guest(copy, 'git', 'status', '--porcelain'), '');
    assert.equal(await unplaced(copy), false);
    await drop(home, [copy]);
  });

  test('a full copy that is cancelled while the guest moves it is moved by the next one', async () => {
    const [copy = ''] = await fork(home, 'dev', 1);
    const script = `printf '#!/bin/sh\necho now > /dev/shm/moving\nsleep 1000\n' > /usr/local/bin/mv; chmod +x /usr/local/bin/mv`;
    await home.guest(copy, 'sh', '-c', script);
    const args = ['vm', 'workspace', 'prepare', copy, repo.dir, '--mode', 'full_copy'];
    const cancelled = home.start(args);
    await fileOf(home, copy, '/dev/shm/moving');
    cancelled.child.kill('SIGINT');
    assert.notEqual((await cancelled.done).status, 0);
    assert.ok(await unplaced(copy));
    await home.guest(copy, 'rm', '/usr/local/bin/mv');
    const again = await home.json<WorkspacePrepared>(args);
    assert.equal(again.outcome, 'unchanged');
    assert.equal(await home.guest(copy, 'git', 'status', '--porcelain'), '');
    assert.equal(await unplaced(copy), false);
    await drop(home, [copy]);
  });

  test('cancelled, and the daemon killed, while the first copy is written', async () => {
    assert.match((await prepareUntil(null, async ({ abort }) => abort())) ?? '', /cancelled/);
    await prepareUntil(1, ({ kill }) => kill());
    const workspace = (await home.show('dev')).workspace;
    assert.ok(workspace === null || workspace.sourcePath === repo.dir);
    await assertRecovers();
  });

  for (const moment of atMoments<Moment, Moment>([null, FILES / 2], [1, 10, FILES - 1, FILES])) {
    test(`the daemon is killed after ${moment ?? 'no'} files`, async () => {
      change();
      await prepareUntil(moment, ({ kill }) => kill());
      await assertWhole();
      await assertRecovers();
    });
  }

  test('the daemon is killed behind the answer that one file was sent', async () => {
    const path = 'many/0/0';
    await repo.commit('all that was changed');
    await assertRecovers();
    for (const waitMs of [0, 60]) {
      const letter = waitMs === 0 ? 'y' : 'z';
      const size = FILE_BYTES + 'abcdefghijklmnopqrstuvwxyz'.indexOf(letter);
      repo.write(path, Buffer.alloc(size, letter));
      const pid = await home.daemonPid();
      const { files } = await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', 'dev']);
      assert.equal(files, 1);
      await delay(waitMs);
      process.kill(pid, 'SIGKILL');
      await settled(() => !isAlive(pid));
      assert.deepEqual(await copyFiles(), treeOf(repo.dir));
      if (waitMs === 0) {
        // Nothing that was written down tells the copy from this.
        await repo.git('checkout', '--', path);
        const exported = await home.run(['vm', 'workspace', 'export', 'dev', '--stat']);
        const status = await home.ok(['vm', 'workspace', 'status', 'dev']);
        // On a fast host it may have been written down before.
        const isCutOff = existsSync(join((await home.show('dev')).vmDir, 'shipped.sent'));
        assert.equal(/was cut off/.test(exported.stderr), isCutOff);
        assert.equal(/what was cut off/.test(status), isCutOff);
        assert.notDeepEqual(await copyFiles(), treeOf(repo.dir));
      }
      await assertRecovers();
    }
  });

  for (const moment of atMoments<Moment, Moment>([FILES / 2], [null, 1, FILES])) {
    test(`it is cancelled after ${moment ?? 'no'} files`, async () => {
      change();
      await prepareUntil(moment, async ({ abort }) => abort());
      await assertWhole();
      await assertRecovers();
    });
  }

  test('stopping the VM ends it, and does not wait for it', async () => {
    change();
    const stopped = Promise.withResolvers<void>();
    const error = await prepareUntil(FILES / 4, async () => {
      await home.ok(['vm', 'stop', 'dev']);
      stopped.resolve();
    });
    await stopped.promise;
    // On a fast host it may have been done before.
    if (error !== undefined) assert.match(error, /VM "dev" is being stopped/);
    await home.ok(['vm', 'start', 'dev']);
    await assertWhole();
    await assertRecovers();
  });

  test('the VM is killed in the middle', async () => {
    change();
    await prepareUntil(FILES / 2, async () => {
      await home.ok(['vm', 'kill', 'dev']);
    });
    await home.ok(['vm', 'start', 'dev']);
    await assertRecovers();
  });

  test('what a prepare has sent is there after the power was lost', async () => {
    change();
    await home.ok(['vm', 'workspace', 'prepare', 'dev']);
    await home.ok(['vm', 'kill', 'dev']);
    await home.ok(['vm', 'start', 'dev']);
    assert.deepEqual(await copyFiles(), treeOf(repo.dir));
    await assertRecovers();
  });
});
