/** Disks of copied VMs: file systems without a fault, and what was written is there. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { drop, fork, forkOf, snapshot, source } from '../../helpers/copies.ts';
import { settled, TestHome } from '../../helpers/test-home.ts';

/** Never pauses: copies are made in the middle of it. */
const WRITER =
  "setsid sh -c 'i=0; mkdir -p /root/w; while :; do i=$((i+1)); head -c 20000 /dev/urandom > /root/w/$((i % 50)); [ $((i % 20)) = 0 ] && sync; done' > /dev/null 2>&1 < /dev/null &";

describe('disks of copies', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await source(home);
    await home.guest('dev', 'sh', '-c', 'echo written and synced > /root/kept; sync');
    await home.guest('dev', 'sh', '-c', WRITER);
    await settled(async () => (await home.guest('dev', 'sh', '-c', 'ls /root/w | wc -l')) !== '0');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('a fork of a VM that writes without a pause: both without a fault once they are stopped', async () => {
    const copies = await fork(home, 'dev', 2);
    await whilePaused(home, async () => {
      for (const vm of copies) {
        assert.equal(await home.guest(vm, 'cat', '/root/kept'), 'written and synced');
      }
      await home.ok(['vm', 'stop', ...copies]);
      for (const vm of copies) {
        await assertClean(home, vm);
        await home.ok(['vm', 'start', vm]);
        assert.equal(await home.guest(vm, 'cat', '/root/kept'), 'written and synced');
      }
      await drop(home, copies);
    });
  });

  test('a snapshot of the disk alone, of a VM that writes, boots: its journal is replayed', async () => {
    await home.guest('dev', 'sh', '-c', 'echo just before > /root/unsynced');
    await home.ok(['vm', 'snapshot', 'create', 'dev', '--name', 'disk', '--disk-only']);
    await whilePaused(home, async () => {
      const [copy = ''] = await forkOf(home, 'disk', 1);
      assert.equal(await home.guest(copy, 'cat', '/root/unsynced'), 'just before');
      assert.equal(await home.guest(copy, 'hostname'), copy);
      await home.ok(['vm', 'stop', copy]);
      await assertClean(home, copy);
      await drop(home, [copy]);
    });
  });

  test('so does the disk of a snapshot with memory, without that', async () => {
    await snapshot(home, 'dev', 'whole');
    await whilePaused(home, async () => {
      const [copy = ''] = (
        await home.ok(['vm', 'fork', '--snapshot', 'whole', '--disk-only', '--name', 'booted'])
      )
        .trim()
        .split('\n');
      assert.equal(await home.guest(copy, 'cat', '/root/kept'), 'written and synced');
      assert.equal(await home.guest(copy, 'sh', '-c', 'pgrep -f /dev/[u]random || echo none'), 'none');
      await home.ok(['vm', 'stop', copy]);
      await assertClean(home, copy);
      await drop(home, [copy]);
    });
  });

  test('a VM that is put back is on the disk it had then; once stopped it has no fault', async () => {
    await home.guest('dev', 'sh', '-c', 'echo later > /root/later; sync');
    await home.ok(['vm', 'snapshot', 'restore', 'whole', '--force']);
    assert.equal(
      await home.guest('dev', 'sh', '-c', 'cat /root/kept; ls /root/later || true'),
      'written and synced',
    );
    await home.ok(['vm', 'stop', 'dev']);
    await assertClean(home, 'dev');
    await home.ok(['vm', 'snapshot', 'restore', 'disk']);
    assert.equal((await home.show('dev')).state, 'stopped');
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/unsynced'), 'just before');
  });
});

/** The source has been copied: it need not take the time of the copies. */
async function whilePaused(home: TestHome, look: () => Promise<void>): Promise<void> {
  await home.ok(['vm', 'pause', 'dev']);
  await look();
  await home.ok(['vm', 'resume', 'dev']);
}

/** By the programs whose formats these are, on a copy: qemu-img check, e2fsck. */
async function assertClean(home: TestHome, vm: string): Promise<void> {
  const disk = join((await home.show(vm)).vmDir, 'root.qcow2');
  execFileSync('qemu-img', ['check', '-q', disk], { stdio: 'pipe' });
  const raw = join(home.dir, 'disk.raw');
  try {
    execFileSync('qemu-img', ['convert', '-O', 'raw', disk, raw], { stdio: 'pipe' });
    const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
    execFileSync('e2fsck', ['-f', '-n', raw], { stdio: 'pipe', env });
  } finally {
    rmSync(raw, { force: true });
  }
}
