/** A VM's life from create to delete, and what can be asked about it meanwhile. */

import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { PortEntry, VmCreated, VmHealth, VmView } from '../../src/api/results/vm.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

interface One<T> {
  readonly ref: string;
  readonly ok: boolean;
  readonly result?: T;
  readonly error?: { readonly code: string; readonly message: string };
}

describe('life of a VM', () => {
  let home: TestHome;
  before(() => {
    home = new TestHome();
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('create --no-start reserves a name and boots nothing', async () => {
    const created = await home.json<VmCreated>([
      'vm',
      'create',
      '--no-start',
      '--name',
      'dev',
      '--memory',
      '512M',
    ]);
    assert.equal(created.vm.name, 'dev');
    assert.equal(created.vm.state, 'created');
    assert.equal(created.vm.pid, null);
    assert.equal(created.workspace, null);
    assert.match(await home.ok(['vm', 'list']), /^ID +NAME +STATE .*\n[0-9a-f]{12} +dev +created /);
    const { status, stderr } = await home.run(['vm', 'exec', 'dev', '--', 'true']);
    assert.equal(status, 125);
    assert.match(stderr, /it is created\nbanger vm start dev/);
  });

  test('start boots it; list and show know it as running', async () => {
    assert.equal(await home.ok(['vm', 'start', 'dev']), 'dev: started\n');
    const [vm] = await home.vms();
    assert.equal(vm?.state, 'running');
    assert.ok(isAlive(vm.pid));
    assert.equal(vm.spec.memoryMib, 512);
    assert.match(vm.guestIp, /^172\.16\.0\.\d+$/);
    const detail = await home.show('dev');
    assert.ok(detail.argv.includes('512M'), detail.argv.join(' '));
    assert.equal(detail.runtime.bootId, await home.guest('dev', 'cat', '/proc/sys/kernel/random/boot_id'));
    assert.equal(statSync(detail.vmDir).mode & 0o777, 0o700);
    assert.match(await home.ok(['vm', 'show', 'dev']), new RegExp(detail.id));
    assert.equal((await home.show(detail.id.slice(0, 12))).name, 'dev', 'by its short id');
    assert.equal((await home.run(['vm', 'start', 'dev'])).status, 1, 'it runs already');
  });

  test('the guest: its name, its address, its clock, its disk', async () => {
    const { guestIp } = await home.show('dev');
    assert.equal(await home.guest('dev', 'hostname'), 'dev');
    assert.match(await home.guest('dev', 'hostname', '-I'), new RegExp(`^${guestIp} *$`));
    assert.match(await home.guest('dev', 'getent', 'hosts', 'dev'), /dev/);
    const seconds = Number(await home.guest('dev', 'date', '+%s'));
    assert.ok(Math.abs(seconds - Date.now() / 1000) < 30, `the guest's clock shows ${seconds}`);
    const bytes = Number(
      await home.guest('dev', 'df', '-B1', '--output=size', '/').then((out) => out.split('\n')[1]),
    );
    assert.ok(bytes > 7 * 1024 ** 3, `the root file system has ${bytes} bytes`);
  });

  test('health, stats and ports', async () => {
    const [health] = await home.json<One<VmHealth>[]>(['vm', 'health', 'dev']);
    assert.equal(health?.result?.reachable, true);
    assert.ok(health.result.memoryTotalKib > 300 * 1024 && health.result.memoryTotalKib <= 512 * 1024);
    const [stats] = await home.json<One<VmView>[]>(['vm', 'stats', 'dev']);
    assert.ok((stats?.result?.stats.rssBytes ?? 0) > 10 * 1024 ** 2);
    assert.ok((stats?.result?.stats.cpuMs ?? 0) > 0);
    const listen =
      'use IO::Socket::INET; my @s = map { IO::Socket::INET->new(LocalPort => $_, Listen => 1) } 7001, 7002;';
    const server = home.start([
      'vm',
      'exec',
      'dev',
      '--',
      'perl',
      '-e',
      `${listen} $| = 1; print "ready"; sleep`,
    ]);
    await settled(() => server.stdout() === 'ready');
    const [ports] = await home.json<One<PortEntry[]>[]>(['vm', 'ports', 'dev']);
    assert.deepEqual(
      ports?.result?.map(({ protocol, port, process, endpoint }) => ({ protocol, port, process, endpoint })),
      [
        { protocol: 'tcp', port: 7001, process: 'perl', endpoint: 'dev.vm:7001' },
        { protocol: 'tcp', port: 7002, process: 'perl', endpoint: 'dev.vm:7002' },
      ],
    );
    assert.match(await home.ok(['vm', 'ports', 'dev']), /dev\.vm:7001 .*tcp .*7001 .*perl/);
    server.child.kill('SIGTERM');
    assert.equal((await server.done).status, 143);
  });

  test('logs shows the console; logs -f goes on until Ctrl-C', async () => {
    await home.guest('dev', 'sh', '-c', 'echo first-marker > /dev/console');
    const following = home.start(['vm', 'logs', '-f', 'dev']);
    await settled(() => following.stdout().includes('first-marker'));
    await home.guest('dev', 'sh', '-c', 'echo second-marker > /dev/console');
    await settled(() => following.stdout().includes('second-marker'));
    following.child.kill('SIGINT');
    const { status, stdout, stderr } = await following.done;
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout.toString(), /first-marker\r?\n[^]*second-marker/);
    assert.match(await home.ok(['vm', 'logs', 'dev', '--tail', '1']), /^second-marker\r?\n$/);
  });

  test('a restart is another boot, and keeps what was written just before', async () => {
    const before = await home.show('dev');
    const write = 'echo precious > /root/file; mkdir /root/d; head -c 3000000 /dev/zero > /root/d/big';
    await home.guest('dev', 'sh', '-c', write);
    assert.equal(await home.ok(['vm', 'restart', 'dev']), 'dev: restarted\n');
    const now = await home.show('dev');
    assert.notEqual(now.runtime.bootId, before.runtime.bootId);
    assert.notEqual(now.pid, before.pid);
    assert.equal(now.guestIp, before.guestIp);
    assert.equal(await home.guest('dev', 'sh', '-c', 'cat file; wc -c < d/big'), 'precious\n3000000');
  });

  test('stop keeps what was written just before; set changes what the next start uses', async () => {
    const refused = await home.run(['vm', 'set', 'dev', '--vcpu', '4']);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /it is running\nbanger vm stop dev/);
    assert.equal(await home.guest('dev', 'nproc'), '2');
    await home.guest('dev', 'sh', '-c', 'echo later > /root/file');
    const { pid } = await home.show('dev');
    assert.equal(await home.ok(['vm', 'stop', 'dev']), 'dev: stopped\n');
    assert.ok(!isAlive(pid));
    assert.equal((await home.show('dev')).state, 'stopped');
    await home.ok(['vm', 'set', 'dev', '--vcpu', '4', '--memory', '768M', '--disk-size', '9G']);
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'nproc'), '4');
    const totalKib = Number(await home.guest('dev', 'awk', '/MemTotal/ { print $2 }', '/proc/meminfo'));
    assert.ok(totalKib > 512 * 1024 && totalKib <= 768 * 1024, `${totalKib} KiB`);
    const sectors = Number(await home.guest('dev', 'cat', '/sys/block/vda/size'));
    assert.equal(sectors * 512, 9 * 1024 ** 3);
    assert.equal(await home.guest('dev', 'cat', 'file'), 'later');
  });

  test('a disk does not shrink, and numbers that cannot be are refused', async () => {
    await home.ok(['vm', 'kill', 'dev']);
    assert.equal((await home.show('dev')).state, 'stopped');
    for (const [flag, value, message] of [
      ['--disk-size', '2G', /only grow/],
      ['--vcpu', '999', /999 vCPUs/],
      ['--memory', '1M', /at least 128 MiB/],
    ] as const) {
      const { status, stderr } = await home.run(['vm', 'set', 'dev', flag, value]);
      assert.equal(status, 1);
      assert.match(stderr, message);
    }
    assert.equal((await home.show('dev')).spec.vcpus, 4);
  });

  test('several at once, a bad one among them: the others are done, the status tells', async () => {
    await home.ok(['vm', 'create', '--no-start', '--name', 'idle']);
    const outcome = await home.run(['vm', 'start', 'dev', 'nobody']);
    assert.equal(outcome.status, 1);
    assert.match(outcome.stdout.toString(), /^dev: started$/m);
    assert.match(outcome.stderr, /nobody/);
    const mixed = await home.run(['vm', 'health', 'idle', 'dev', '--json']);
    assert.equal(mixed.status, 1);
    const answers = JSON.parse(mixed.stdout.toString()) as One<VmHealth>[];
    assert.deepEqual(
      answers.map(({ ref, ok, error }) => [ref, ok, error?.code]),
      [
        ['idle', false, 'invalid_state'],
        ['dev', true, undefined],
      ],
    );
  });

  test('prune removes what does not run, after being forced to', async () => {
    const unforced = await home.run(['vm', 'prune']);
    assert.equal(unforced.status, 2);
    assert.match(unforced.stderr, /--force/);
    assert.equal(await home.ok(['vm', 'prune', '--force']), 'idle: deleted\n');
    assert.deepEqual(
      (await home.vms()).map((vm) => vm.name),
      ['dev'],
    );
    assert.equal(await home.ok(['vm', 'prune', '--force']), 'nothing to prune\n');
  });

  test('a VM that powers itself off is stopped, not in error', async () => {
    await home.run(['vm', 'exec', 'dev', '--', 'sh', '-c', 'poweroff || reboot -f']);
    await settled(async () => (await home.show('dev')).state !== 'running');
    assert.equal((await home.show('dev')).state, 'stopped');
  });

  test('delete removes everything, running or not', async () => {
    await home.ok(['vm', 'start', 'dev']);
    const { vmDir, pid } = await home.show('dev');
    assert.equal(await home.ok(['vm', 'delete', 'dev']), 'dev: deleted\n');
    assert.ok(!existsSync(vmDir));
    assert.ok(!isAlive(pid));
    await home.assertNothingLeft();
    assert.equal((await home.run(['vm', 'show', 'dev'])).status, 1);
  });

  test("the image's own systemd as PID 1", async () => {
    // Commands run before systemd listens: the first one has to wait for it.
    const ready = 'until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait';
    const script = `${ready}; cat /proc/1/comm; systemctl --failed --no-legend`;
    const outcome = await home.run(['vm', 'run', '--rm', '--init', 'systemd', '--', 'sh', '-c', script]);
    assert.equal(outcome.stdout.toString(), 'running\nsystemd\n', outcome.stderr);
    assert.equal(outcome.status, 0);
    await home.assertNothingLeft();
  });
});
