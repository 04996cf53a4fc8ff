/** VMs that stand still: nothing runs in them, nothing is lost, and they go on at the right time. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type Running, settled, TestHome } from '../helpers/test-home.ts';

/** Counts without end on stdout, ends with status 7 when told to on stdin. */
const COUNTER = 'i=0; while ! read -r -t 0.02; do i=$((i+1)); echo $i; done; exit 7';
const QUIET_MS = 1000;
/** Longer than what is allowed below, so that a clock that stood still shows. */
const CLOCK_PAUSE_MS = 8000;
const CLOCK_BOUND_MS = 4000;

describe('vm pause and resume', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('a program stands still while its VM is paused, and goes on where it stood, in the same exec', async () => {
    const counter = home.start(['vm', 'exec', 'dev', '--', 'bash', '-c', COUNTER], { keepInput: true });
    await settled(() => counter.stdout().length > 0);
    assert.equal(await home.ok(['vm', 'pause', 'dev']), 'dev: paused\n');
    assert.ok(await fallsSilent(counter), 'it still counts');
    const standing = counter.stdout();
    await sleep(QUIET_MS);
    assert.equal(counter.stdout(), standing);

    const { id, pid } = await home.show('dev');
    assert.match(await home.ok(['vm', 'list']), new RegExp(`^${id.slice(0, 12)} +dev +paused `, 'm'));
    assert.equal(await home.ok(['vm', 'list', '--running', '-q']), '');
    assert.ok(isAlive(pid));
    await home.ok(['vm', 'stats', 'dev']);
    await home.ok(['vm', 'logs', 'dev']);

    assert.equal(await home.ok(['vm', 'resume', 'dev']), 'dev: resumed\n');
    await settled(() => counter.stdout().length > standing.length);
    assert.ok(counter.stdout().length > standing.length, 'it does not go on');
    counter.child.stdin.end('enough\n');
    const { status, stdout } = await counter.done;
    assert.equal(status, 7);
    const counted = stdout.toString().trim().split('\n').map(Number);
    assert.deepEqual(
      counted,
      counted.map((_, index) => index + 1),
    );
    assert.equal((await home.show('dev')).pid, pid);
  });

  test('the clock is right after a resume', async () => {
    await home.ok(['vm', 'pause', 'dev']);
    await sleep(CLOCK_PAUSE_MS);
    await home.ok(['vm', 'resume', 'dev']);
    const earliest = Date.now();
    const guest = Number(await home.guest('dev', 'date', '+%s%3N'));
    const latest = Date.now();
    assert.ok(guest > earliest - CLOCK_BOUND_MS, `${earliest - guest} ms behind`);
    assert.ok(guest < latest + CLOCK_BOUND_MS, `${guest - latest} ms ahead`);
  });

  test('paused twice and resumed twice is fine; what needs the guest is refused with what helps', async () => {
    assert.equal(await home.ok(['vm', 'pause', 'dev']), 'dev: paused\n');
    assert.equal(await home.ok(['vm', 'pause', 'dev']), 'dev: paused\n');
    for (const [args, action, status] of [
      [['vm', 'exec', 'dev', '--', 'true'], 'run anything in', 125],
      [['vm', 'ports', 'dev'], 'list the ports of', 1],
      [['vm', 'health', 'dev'], 'ask the agent of', 1],
      [['vm', 'start', 'dev'], 'start', 1],
    ] as const) {
      const refused = await home.run(args);
      assert.equal(refused.status, status, action);
      const expected = `banger: cannot ${action} VM "dev": it is paused\nbanger vm resume dev\n`;
      assert.ok(refused.stderr.startsWith(expected), refused.stderr);
    }
    assert.equal(await home.ok(['vm', 'resume', 'dev']), 'dev: resumed\n');
    assert.equal(await home.ok(['vm', 'resume', 'dev']), 'dev: resumed\n');
    assert.equal(await home.guest('dev', 'hostname'), 'dev');
  });

  test('what was written just before is kept by a stop and by a restart of a paused VM', async () => {
    for (const word of ['stop', 'restart']) {
      await home.guest('dev', 'sh', '-c', `echo before the ${word} > /root/file`);
      await home.ok(['vm', 'pause', 'dev']);
      await home.ok(['vm', word, 'dev']);
      if (word === 'stop') {
        const refused = await home.run(['vm', 'pause', 'dev']);
        assert.match(refused.stderr, /^banger: cannot pause VM "dev": it is stopped\nbanger vm start dev\n/);
        await home.ok(['vm', 'start', 'dev']);
      }
      assert.equal(await home.guest('dev', 'cat', '/root/file'), `before the ${word}`);
    }
  });

  test('kill -9 of the daemon while a VM is paused: the next one finds it so, and resumes it', async () => {
    await home.guest('dev', 'sh', '-c', 'echo 1 > /dev/shm/only-in-memory');
    await home.ok(['vm', 'pause', 'dev']);
    const before = await home.show('dev');
    const daemon = await home.daemonPid();
    process.kill(daemon, 'SIGKILL');
    await settled(() => !isAlive(daemon));
    const found = await home.show('dev');
    assert.notEqual(await home.daemonPid(), daemon);
    assert.deepEqual([found.state, found.pid, found.runtime], ['paused', before.pid, before.runtime]);
    await home.ok(['vm', 'resume', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/dev/shm/only-in-memory'), '1');
    assert.equal(await home.guest('dev', 'cat', '/proc/sys/kernel/random/boot_id'), before.runtime.bootId);
  });

  test('kill ends a paused VM at once; one whose QEMU is killed is in error', async () => {
    await home.ok(['vm', 'pause', 'dev']);
    const { pid } = await home.show('dev');
    assert.equal(await home.ok(['vm', 'kill', 'dev']), 'dev: killed\n');
    assert.ok(!isAlive(pid));
    assert.equal((await home.show('dev')).state, 'stopped');
    await home.ok(['vm', 'start', 'dev']);
    await home.ok(['vm', 'pause', 'dev']);
    process.kill((await home.show('dev')).pid ?? assert.fail('it has no pid'), 'SIGKILL');
    await settled(async () => (await home.show('dev')).state !== 'paused');
    assert.equal((await home.show('dev')).state, 'error');
    await home.ok(['vm', 'start', 'dev']);
  });

  test('delete removes a paused VM, and nothing is left', async () => {
    await home.ok(['vm', 'pause', 'dev']);
    const { pid } = await home.show('dev');
    assert.equal(await home.ok(['vm', 'delete', 'dev']), 'dev: deleted\n');
    assert.ok(!isAlive(pid));
    await home.assertNothingLeft();
  });
});

/** What was under way when the VM was paused may still come; then nothing for a while. */
async function fallsSilent(running: Running): Promise<boolean> {
  let last = '';
  let isSilent = false;
  await settled(async () => {
    last = running.stdout();
    await sleep(QUIET_MS);
    isSilent = running.stdout() === last;
    return isSilent;
  });
  return isSilent;
}
