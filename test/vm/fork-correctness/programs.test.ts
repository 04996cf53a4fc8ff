/** Programs go on in each copy from the same point, with what they have open, and know nothing of one another. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { drop, fileOf, fork, forkOf, leaveRunning, snapshot, source } from '../../helpers/copies.ts';
import { settled, TestHome } from '../../helpers/test-home.ts';

/** Files with what has not come to the disk, one of them without a name any more. */
const HOLDER = `
import os, time
kept = open('/root/kept', 'w+'); kept.write('before\\n'); kept.flush()
gone = open('/root/gone', 'w+'); gone.write('before\\n'); gone.flush(); os.unlink('/root/gone')
buffered = open('/root/buffered', 'w', buffering=65536); buffered.write('before\\n')
open('/dev/shm/ready', 'w').close()
while not os.path.exists('/dev/shm/write'): time.sleep(0.05)
name = os.uname().nodename
for each in (kept, gone, buffered): each.write(name + '\\n'); each.flush()
said = []
for each in (kept, gone): each.seek(0); said.append(each.read().replace('\\n', ' ').strip())
said.append(open('/root/buffered').read().replace('\\n', ' ').strip())
open('/dev/shm/said.new', 'w').write('\\n'.join(said))
os.rename('/dev/shm/said.new', '/dev/shm/said')
time.sleep(10000)
`;
/** Numbers through a pipe, each written down: a gap or a repetition would be seen. Neither end starts a program for it. */
const COUNTER = [
  `setsid sh -c 'perl -e "$| = 1; for (;;) { print ++\\$i, qq(\\n); select(undef, undef, undef, 0.05) }" | while read -r n; do echo $n >> /dev/shm/count; done'`,
  '> /dev/null 2>&1 < /dev/null &',
].join(' ');

describe('programs in copies', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await source(home);
    await home.guest('dev', 'sh', '-c', COUNTER);
    await leaveRunning(home, 'dev', HOLDER);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('open files, unlinked and unwritten ones too, are each its own afterwards', async () => {
    await snapshot(home, 'dev', 'then');
    const copies = [...(await fork(home, 'dev', 2)), ...(await forkOf(home, 'then', 1))];
    for (const vm of [...copies, 'dev']) {
      await home.guest(vm, 'touch', '/dev/shm/write');
      const said = (await fileOf(home, vm, '/dev/shm/said')).split('\n');
      assert.deepEqual(said, [`before ${vm}`, `before ${vm}`, `before ${vm}`]);
    }
    await drop(home, copies);
  });

  test('a pipe between two programs goes on from one point in all, without a gap', async () => {
    const before = await counted(home, 'dev');
    const copies = await fork(home, 'dev', 2);
    const [a = [], b = []] = await Promise.all(copies.map((vm) => goesOn(home, vm)));
    const here = await goesOn(home, 'dev');
    for (const numbers of [a, b, here]) {
      assert.deepEqual(numbers.slice(0, before.length), before);
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => index + 1),
      );
    }
    await drop(home, copies);
  });

  test('a copy of a copy, and of a VM that was put back to a snapshot', async () => {
    const [copy = ''] = await fork(home, 'dev', 1);
    const [second = ''] = await fork(home, copy, 1);
    assert.equal(await home.guest(second, 'hostname'), second);
    await goesOn(home, second);
    await home.ok(['vm', 'snapshot', 'restore', 'then', '--force']);
    const [third = ''] = await fork(home, 'dev', 1);
    await goesOn(home, third);
    await drop(home, [copy, second, third]);
  });

  test('a paused VM stays so; its copy runs; a second copy is refused with what helps', async () => {
    await home.ok(['vm', 'pause', 'dev']);
    const [copy = ''] = await fork(home, 'dev', 1);
    assert.equal((await home.show('dev')).state, 'paused');
    await goesOn(home, copy);
    const refused = await home.run(['vm', 'fork', 'dev']);
    assert.match(
      refused.stderr,
      /^banger: the memory of VM "dev" was copied since it was paused\nbanger vm resume dev/,
    );
    assert.equal((await home.show('dev')).state, 'paused');
    await home.ok(['vm', 'resume', 'dev']);
    await goesOn(home, 'dev');
    await drop(home, [copy]);
  });

  test('systemd goes on as PID 1', async () => {
    await home.ok(['vm', 'create', '--name', 'sys', '--memory', '512M', '--init', 'systemd']);
    // The VM counts as running before systemd has come up.
    const begin = ['vm', 'exec', 'sys', '--', 'systemd-run', '--unit', 'counter', 'sleep', '10000'];
    await settled(async () => (await home.run(begin)).status === 0, 60_000);
    const [copy = ''] = await fork(home, 'sys', 1);
    for (const vm of ['sys', copy]) {
      assert.equal(await home.guest(vm, 'cat', '/proc/1/comm'), 'systemd');
      assert.equal(await home.guest(vm, 'systemctl', 'is-active', 'counter'), 'active');
      assert.equal(await home.guest(vm, 'hostname'), vm);
    }
    await home.ok(['vm', 'stop', copy]);
    await home.ok(['vm', 'start', copy]);
    assert.equal(await home.guest(copy, 'hostname'), copy);
    await drop(home, ['sys', copy]);
  });
});

async function counted(home: TestHome, vm: string): Promise<readonly number[]> {
  const text = await home.guest(vm, 'cat', '/dev/shm/count');
  return text.split('\n').map(Number);
}

/** Waits until it has counted on. */
async function goesOn(home: TestHome, vm: string): Promise<readonly number[]> {
  const first = await counted(home, vm);
  let now = first;
  await settled(async () => (now = await counted(home, vm)).length > first.length);
  assert.ok(now.length > first.length, `${vm} stands still`);
  return now;
}
