/**
 * Whatever dies, at whatever moment: VMs and their data outlive the daemon, and the end of a VMM is noticed. With `THOROUGH=1`
 * the daemon is killed at more moments of a creation, a stop and a deletion.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, globSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, ROOT, settled, TestHome } from '../helpers/test-home.ts';
import { atMoments } from '../helpers/thorough.ts';

describe('crashes', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await home.ok(['vm', 'run', '-d', '--name', 'dev']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('kill -9 of the daemon leaves VMs running; the next one finds them again', async () => {
    const before = await home.show('dev');
    await home.guest('dev', 'sh', '-c', 'echo 1 > /dev/shm/only-in-memory');
    const daemon = await killDaemon(home);
    assert.ok(isAlive(before.pid));
    const now = await home.show('dev');
    assert.notEqual(await home.daemonPid(), daemon);
    assert.deepEqual(
      [now.state, now.pid, now.runtime.bootId],
      ['running', before.pid, before.runtime.bootId],
    );
    assert.equal(
      await home.guest('dev', 'cat', '/proc/sys/kernel/random/boot_id', '/dev/shm/only-in-memory'),
      `${before.runtime.bootId}\n1`,
    );
  });

  test('daemon stop leaves VMs running, too', async () => {
    const { runtime, pid } = await home.show('dev');
    assert.equal(await home.ok(['daemon', 'stop']), 'stopped\n');
    assert.equal((await home.run(['daemon', 'status'])).status, 1);
    assert.ok(isAlive(pid));
    const now = await home.show('dev');
    assert.deepEqual([now.pid, now.runtime.bootId], [pid, runtime.bootId]);
    assert.equal(await home.guest('dev', 'cat', '/proc/sys/kernel/random/boot_id'), runtime.bootId);
  });

  test('kill -9 of the daemon during exec: 125 and why; the VM stays, the program is gone', async () => {
    const running = home.start([
      'vm',
      'exec',
      'dev',
      '--',
      'bash',
      '-c',
      'echo ready; exec -a left-alone sleep 1000',
    ]);
    await settled(() => running.stdout() === 'ready\n');
    await killDaemon(home);
    const { status, stderr } = await running.done;
    assert.equal(status, 125);
    assert.match(stderr, /^banger: the daemon hung up before the result came\nbanger daemon logs\n/);
    const search = ['vm', 'exec', 'dev', '--', 'pgrep', '-f', '[l]eft-alone'];
    await settled(async () => (await home.run(search)).status === 1);
    assert.equal((await home.run(search)).status, 1);
  });

  test('kill -9 of the daemon during create: the client says so, the next daemon leaves nothing of it', async () => {
    for (const delayMs of atMoments([150, 400, 1000], [2000])) {
      const running = home.start(['vm', 'create', '--name', 'unfinished', '--cold']);
      await sleep(delayMs);
      await killDaemon(home);
      const { status, stderr } = await running.done;
      // The last point may lie beyond the end of a quick creation.
      const created = status === 0;
      if (created) await home.ok(['vm', 'delete', 'unfinished']);
      else assert.match(stderr, /^banger: the daemon /, `${status}`);
      assert.deepEqual(
        (await home.vms()).map((vm) => vm.name),
        ['dev'],
        `after ${delayMs} ms`,
      );
      await onlyDevIsLeft(home);
    }
  });

  test('kill -9 of the daemon during vm run --rm: nothing of it is left', async () => {
    const running = home.start(['vm', 'run', '--rm', '--', 'sh', '-c', 'echo ready; sleep 1000']);
    await settled(() => running.stdout() === 'ready\n', 60_000);
    await killDaemon(home);
    assert.equal((await running.done).status, 125);
    assert.deepEqual(
      (await home.vms()).map((vm) => vm.name),
      ['dev'],
    );
    await onlyDevIsLeft(home);
  });

  test('kill -9 of the daemon during stop: what was written before is there', async () => {
    for (const delayMs of atMoments([60, 200, 600], [120, 350])) {
      const text = `written before the stop at ${delayMs} ms`;
      await home.guest('dev', 'sh', '-c', `echo ${text} > /root/file`);
      const running = home.start(['vm', 'stop', 'dev']);
      await sleep(delayMs);
      await killDaemon(home);
      await running.done;
      await settled(async () => ['running', 'stopped'].includes((await home.show('dev')).state));
      const { state } = await home.show('dev');
      assert.ok(state === 'running' || state === 'stopped', state);
      if (state === 'stopped') await home.ok(['vm', 'start', 'dev']);
      assert.equal(await home.guest('dev', 'cat', '/root/file'), text);
    }
  });

  test('kill -9 of the daemon during delete: the next one finishes it', async () => {
    for (const delayMs of atMoments([60, 150], [90])) {
      await home.ok(['vm', 'create', '--name', 'doomed']);
      const running = home.start(['vm', 'delete', 'doomed']);
      await sleep(delayMs);
      await killDaemon(home);
      await running.done;
      // Too early to have reached the daemon: it is still there, and whole.
      if ((await home.vms()).length > 1) {
        assert.equal(await home.guest('doomed', 'hostname'), 'doomed');
        await home.ok(['vm', 'delete', 'doomed']);
      }
      await onlyDevIsLeft(home);
    }
  });

  test('a VM whose handles were never written down is found and ended', async () => {
    await home.ok(['vm', 'create', '--name', 'lost']);
    const { pid, vmDir } = await home.show('lost');
    await killDaemon(home);
    rmSync(join(vmDir, 'handles.json'));
    await settled(async () => (await home.show('lost')).state !== 'running');
    assert.equal((await home.show('lost')).state, 'stopped');
    await settled(() => !isAlive(pid));
    assert.ok(!isAlive(pid), 'its QEMU still runs, and nobody knows of it');
    await home.ok(['vm', 'start', 'lost']);
    await home.ok(['vm', 'delete', 'lost']);
  });

  test('kill -9 of QEMU: the exec ends with 125, the VM is in error and says why, start boots it again', async () => {
    await home.guest('dev', 'sh', '-c', 'echo kept > /root/file; sync');
    const { pid } = await home.show('dev');
    assert.ok(pid !== null);
    const running = home.start(['vm', 'exec', 'dev', '--', 'sh', '-c', 'echo ready; sleep 1000']);
    await settled(() => running.stdout() === 'ready\n');
    process.kill(pid, 'SIGKILL');
    const { status, stderr } = await running.done;
    assert.equal(status, 125);
    assert.match(stderr, /^banger: the connection to the guest was lost/);
    await settled(async () => (await home.show('dev')).state === 'error');
    const { state, runtime } = await home.show('dev');
    assert.equal(state, 'error');
    assert.match(String(runtime.lastError), /SIGKILL|VMM ended/);
    assert.match(await home.ok(['vm', 'list']), /error/);
    assert.match(await home.ok(['vm', 'show', 'dev']), /VMM ended unasked/);
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/file'), 'kept');
    assert.equal((await home.show('dev')).runtime.lastError, undefined);
  });

  test('kill -9 of a QEMU that an earlier daemon started is noticed as well', async () => {
    await killDaemon(home);
    const { pid } = await home.show('dev');
    assert.ok(pid !== null);
    process.kill(pid, 'SIGKILL');
    await settled(async () => (await home.show('dev')).state === 'error');
    assert.equal((await home.show('dev')).state, 'error');
    await home.ok(['vm', 'start', 'dev']);
  });

  test('kill -9 of QEMU while no daemon runs', async () => {
    const { pid } = await home.show('dev');
    assert.ok(pid !== null);
    await home.ok(['daemon', 'stop']);
    process.kill(pid, 'SIGKILL');
    await settled(() => !isAlive(pid));
    const { state, runtime } = await home.show('dev');
    assert.equal(state, 'stopped');
    assert.match(String(runtime.lastError), /no daemon/);
    await home.ok(['vm', 'start', 'dev']);
  });

  test('a guest that hangs does not hang a stop', async () => {
    const { pid } = await home.show('dev');
    assert.ok(pid !== null);
    process.kill(pid, 'SIGSTOP');
    assert.equal(await home.ok(['vm', 'stop', 'dev']), 'dev: stopped\n');
    assert.ok(!isAlive(pid));
    await home.ok(['vm', 'start', 'dev']);
  });

  test('two daemons on one state directory: the second says who has it, the first goes on', async () => {
    const first = await home.daemonPid();
    const second = spawn(join(ROOT, 'bin', 'bangerd'), { env: home.env, stdio: ['ignore', 'pipe', 'pipe'] });
    let words = '';
    second.stderr.on('data', (chunk: Buffer) => {
      words += chunk.toString();
    });
    const status = await new Promise((resolve) => second.once('close', resolve));
    assert.equal(status, 75);
    assert.match(words, new RegExp(`another bangerd \\(pid ${first}\\) works on ${home.dir}/state`));
    assert.equal(await home.daemonPid(), first);
    assert.equal(await home.guest('dev', 'echo', 'ok'), 'ok');
  });

  test('ten clients at once start one daemon', async () => {
    await home.ok(['daemon', 'stop']);
    const lists = await Promise.all(Array.from({ length: 10 }, () => home.run(['vm', 'list', '--json'])));
    assert.deepEqual(
      lists.map(({ status, stderr }) => [status, stderr]),
      lists.map(() => [0, '']),
    );
    // Those that lost the race end by themselves.
    const daemons = () => home.processes().filter(({ command }) => command.includes('bangerd'));
    await settled(() => daemons().length === 1);
    assert.equal(daemons().length, 1, JSON.stringify(daemons()));
  });

  test('a client of another version is told what to run; its stop works, and the VMs stay', async () => {
    using other = new OtherVersion();
    const { bootId } = (await home.show('dev')).runtime;
    const refused = other.run(home, ['vm', 'list']);
    assert.equal(refused.status, 1);
    assert.match(
      refused.stderr,
      /^banger: this is banger .*, and the daemon is .*\nrun `banger daemon stop`/,
    );
    const exec = other.run(home, ['vm', 'exec', 'dev', '--', 'true']);
    assert.equal(exec.status, 125);
    assert.equal(other.run(home, ['daemon', 'status']).status, 0);
    assert.equal(other.run(home, ['daemon', 'stop']).status, 0);
    assert.match(
      other.run(home, ['vm', 'exec', 'dev', '--', 'cat', '/proc/sys/kernel/random/boot_id']).stdout,
      new RegExp(`^${bootId}`),
    );
    assert.equal(other.run(home, ['daemon', 'stop']).status, 0);
    assert.equal((await home.show('dev')).runtime.bootId, bootId);
  });
});

/** This installation under another build id, as an upgrade would bring it. */
class OtherVersion implements Disposable {
  readonly #dir = mkdtempSync(join(tmpdir(), 'bt-other-'));

  constructor() {
    for (const name of ['bin', 'dist']) cpSync(join(ROOT, name), join(this.#dir, name), { recursive: true });
    for (const name of [
      'src',
      'guest',
      'scripts',
      'build',
      'node_modules',
      'package.json',
      'package-lock.json',
    ]) {
      symlinkSync(join(ROOT, name), join(this.#dir, name));
    }
    const dist = join(this.#dir, 'dist');
    let replaced = 0;
    for (const path of globSync(join(dist, '*.{js,cjs}'))) {
      const text = readFileSync(path, 'utf8');
      const changed = text.replaceAll(/(buildId: ?")[0-9a-f]{12}"/g, '$1ffffffffffff"');
      if (changed !== text) replaced += 1;
      writeFileSync(path, changed);
    }
    assert.ok(replaced > 0, 'no build id in the bundle');
    rmSync(join(dist, 'cache'), { recursive: true, force: true });
  }

  run(home: TestHome, args: readonly string[]): { status: number; stdout: string; stderr: string } {
    try {
      const options = { env: home.env, cwd: home.dir, encoding: 'utf8', stdio: 'pipe' } as const;
      const stdout = execFileSync(join(this.#dir, 'bin', 'banger'), args, options);
      return { status: 0, stdout, stderr: '' };
    } catch (error) {
      const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
      return { status, stdout, stderr };
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

/** Without a client, which would start one. */
async function pidOfDaemon(home: TestHome): Promise<number | undefined> {
  return home.processes().find(({ command }) => command.includes('bangerd'))?.pid;
}

async function killDaemon(home: TestHome): Promise<number> {
  const pid = await pidOfDaemon(home);
  assert.ok(pid !== undefined, 'no daemon runs');
  process.kill(pid, 'SIGKILL');
  await settled(() => !isAlive(pid));
  return pid;
}

async function onlyDevIsLeft(home: TestHome): Promise<void> {
  const { id, pid } = await home.show('dev');
  const daemon = await home.daemonPid();
  const others = () => home.processes().filter((process) => process.pid !== daemon && process.pid !== pid);
  await settled(() => others().length === 0);
  assert.deepEqual(others(), []);
  assert.deepEqual(
    home.leftovers().filter((path) => !path.includes(id.slice(0, 12))),
    [],
  );
}
