/** A repository's copy in copied VMs: as it was, changes and all, and each VM's own from then on. */

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { WorkspacePrepared } from '../../../src/api/results/workspace.ts';
import { drop, fork, forkOf, snapshot, source } from '../../helpers/copies.ts';
import { initRepo, type TestRepo } from '../../helpers/host-repo.ts';
import { TestHome } from '../../helpers/test-home.ts';

const STATUS = ['git', '-C', '/root/repo', 'status', '--porcelain', '--branch'] as const;

describe('workspaces in copies', () => {
  let home: TestHome;
  let repo: TestRepo;
  before(async () => {
    home = TestHome.warm();
    repo = await initRepo(join(home.dir, 'project'));
    for (const name of ['changed', 'removed', 'kept', 'src/deep/file']) repo.write(name);
    await repo.commit();
    repo.write('src/deep/file', 'not committed\n');
    await source(home, repo.dir);
    await home.guest(
      'dev',
      'sh',
      '-ec',
      'cd /root/repo; echo more >> changed; rm removed; echo new > untracked',
    );
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('mounted, with what was changed, in forks and in what is made of snapshots with and without memory', async () => {
    const status = await home.guest('dev', ...STATUS);
    assert.match(status, /^ M changed\n D removed\n M src\/deep\/file\n\?\? untracked$/m);
    await snapshot(home, 'dev', 'whole');
    await home.ok(['vm', 'snapshot', 'create', 'dev', '--name', 'disk', '--disk-only']);
    const copies = [
      ...(await fork(home, 'dev', 1)),
      ...(await forkOf(home, 'whole', 1)),
      ...(await forkOf(home, 'disk', 1)),
    ];
    for (const vm of [...copies, 'dev']) assert.equal(await home.guest(vm, ...STATUS), status, vm);
    await drop(home, copies);
  });

  test('what one writes no other sees; all that is shared is what nobody writes', async () => {
    const copies = await fork(home, 'dev', 2);
    const all = [...copies, 'dev'];
    for (const vm of all) {
      const script = `cd /root/repo; echo ${vm} > own; echo ${vm} >> kept; git add -A; git -c user.name=t -c user.email=t@t commit -qm ${vm}`;
      await home.guest(vm, 'sh', '-ec', script);
    }
    for (const vm of all) {
      assert.equal(await home.guest(vm, 'cat', '/root/repo/own'), vm);
      assert.equal(await home.guest(vm, 'git', '-C', '/root/repo', 'log', '-1', '--format=%s'), vm);
      assert.equal(await home.guest(vm, 'git', '-C', '/root/repo', 'show', 'HEAD:kept'), `kept\n${vm}`);
    }
    const inodes = await Promise.all(
      all.map(async (vm) => statSync(join((await home.show(vm)).vmDir, 'transfer.img')).ino),
    );
    assert.equal(new Set(inodes).size, 1);
    await drop(home, copies);
  });

  test('each is brought up to what the host has changed since', async () => {
    await snapshot(home, 'dev', 'shipped');
    const copies = [...(await fork(home, 'dev', 1)), ...(await forkOf(home, 'shipped', 1))];
    repo.write('src/deep/file', 'changed again\n');
    for (const vm of copies) {
      assert.equal((await home.json<WorkspacePrepared>(['vm', 'workspace', 'prepare', vm])).files, 1);
      assert.equal(await home.guest(vm, 'cat', '/root/repo/src/deep/file'), 'changed again');
    }
    await drop(home, copies);
  });

  test('a copy that is stopped and started has it mounted again, and its own changes', async () => {
    const [copy = ''] = await fork(home, 'dev', 1);
    await home.guest(copy, 'sh', '-c', 'echo mine > /root/repo/mine');
    const status = await home.guest(copy, ...STATUS);
    assert.deepEqual((await home.show(copy)).workspace, (await home.show('dev')).workspace);
    await home.ok(['vm', 'restart', copy]);
    assert.equal(await home.guest(copy, ...STATUS), status);
    assert.equal(await home.guest(copy, 'cat', '/root/repo/mine'), 'mine');
    await drop(home, [copy]);
  });

  test('a VM that is put back has the workspace it had then', async () => {
    const status = await home.guest('dev', ...STATUS);
    await snapshot(home, 'dev', 'then');
    const { workspace } = await home.show('dev');
    for (const content of ['later\n', 'and later\n']) {
      repo.write('src/deep/file', content);
      await home.ok(['vm', 'workspace', 'prepare', 'dev']);
    }
    assert.notDeepEqual((await home.show('dev')).workspace, workspace);
    await home.guest('dev', 'sh', '-c', 'rm -rf /root/repo/src; echo later > /root/repo/later');
    assert.notEqual(await home.guest('dev', ...STATUS), status);
    await home.ok(['vm', 'snapshot', 'restore', 'then', '--force']);
    assert.equal(await home.guest('dev', ...STATUS), status);
    assert.equal(await home.guest('dev', 'git', '-C', '/root/repo', 'fsck', '--no-dangling'), '');
    assert.deepEqual((await home.show('dev')).workspace, workspace);
    const exported = await home.ok(['vm', 'workspace', 'export', 'dev', '--since-prepare']);
    assert.doesNotMatch(exported, /later/, 'what was sent since is not known any more, and not there');
    await home.ok(['vm', 'workspace', 'prepare', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/repo/src/deep/file'), 'and later');
  });
});
