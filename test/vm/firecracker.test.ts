/** VMs of a daemon that is set to Firecracker: with a model of the program, whose guests are real. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';
import { installModel } from '../vmm/firecracker/model.ts';

const dir = mkdtempSync(join(tmpdir(), 'fc-vm-'));
const program = await installModel(dir);
const settings = (driver: string): string =>
  `driver = "${driver}"\nfirecracker_bin = "${program}"\n[templates]\nmax_size = 0\n[vm_defaults]\nmemory = "512MiB"\n`;
let home: TestHome;

before(() => {
  home = new TestHome(settings('firecracker'));
});
after(async () => {
  await home[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

test('a VM is made, used, found by a later daemon, stopped, started again and deleted', async () => {
  await home.ok(['vm', 'create', '--name', 'dev', '--disk-size', '9GiB']);
  const made = await home.show('dev');
  assert.deepEqual(
    [made.spec.driver, made.state, made.runtime.machine],
    ['firecracker', 'running', 'firecracker'],
  );
  assert.equal(made.argv[0], program);
  assert.equal(await home.guest('dev', 'hostname'), 'dev');
  assert.match(await home.guest('dev', 'cat', '/proc/cmdline'), /reboot=k|reboot=t/);
  await home.guest('dev', 'sh', '-c', 'echo kept > /root/file; sync');
  // Grown to what was asked for, and no more than its blocks.
  const disk = statSync(join(home.dir, 'state', 'vms', made.id, 'root.qcow2'));
  assert.equal(disk.size, 9 * 1024 ** 3);
  assert.ok(disk.blocks * 512 < 1024 ** 3);
  assert.ok(Number(await home.guest('dev', 'stat', '-f', '-c', '%b', '/')) * 4096 > 8.4 * 1024 ** 3);

  const daemon = await home.daemonPid();
  process.kill(daemon, 'SIGKILL');
  await settled(() => !isAlive(daemon));
  assert.equal(await home.guest('dev', 'cat', '/root/file'), 'kept');
  const found = await home.show('dev');
  assert.deepEqual([found.pid, found.runtime.bootId], [made.pid, made.runtime.bootId]);

  await home.ok(['vm', 'pause', 'dev']);
  assert.equal((await home.show('dev')).state, 'paused');
  await home.ok(['vm', 'resume', 'dev']);
  await home.ok(['vm', 'stop', 'dev']);
  assert.equal(isAlive(made.pid), false);
  await home.ok(['vm', 'set', 'dev', '--disk-size', '10GiB']);
  await home.ok(['vm', 'start', 'dev']);
  assert.equal(await home.guest('dev', 'cat', '/root/file'), 'kept');
  await home.ok(['vm', 'delete', 'dev']);
  await home.assertNothingLeft();
});

test('a VM is saved to disk and goes on; a snapshot with memory becomes another VM', async () => {
  await home.ok(['vm', 'create', '--name', 'one']);
  await home.guest('one', 'sh', '-c', 'echo in memory > /run/file');
  await home.ok(['vm', 'pause', '--save', 'one']);
  assert.equal((await home.show('one')).state, 'saved');
  await home.ok(['vm', 'resume', 'one']);
  assert.equal(await home.guest('one', 'cat', '/run/file'), 'in memory');
  await home.ok(['vm', 'fork', 'one', '--name', 'two']);
  await home.guest('two', 'sh', '-c', 'echo of two > /run/file');
  assert.equal(await home.guest('one', 'cat', '/run/file'), 'in memory');
  assert.equal(await home.guest('two', 'hostname'), 'two');
  await home.ok(['vm', 'delete', 'one', 'two']);
  await home.assertNothingLeft();
});

test('a new VM starts from a template, and from a machine that waits, on a larger disk', async () => {
  await using other = new TestHome(settings('firecracker').replace('max_size = 0', 'max_size = "2GiB"'));
  await other.ok(['vm', 'create', '--name', 'first']);
  await settled(() => other.templates().some((name) => !name.startsWith('.')));
  const isReady = async (): Promise<boolean> =>
    (await other.json<{ standby: boolean }>(['daemon', 'status'])).standby;
  for (const name of ['second', 'third']) {
    await other.ok(['vm', 'create', '--name', name, '--disk-size', '9GiB']);
    assert.equal((await other.show(name)).runtime.startedFrom, 'template');
    const facts = await other.guest(name, 'sh', '-c', 'hostname; cat /sys/block/vda/size; stat -f -c %b /');
    const [hostname, sectors, blocks] = facts.split('\n');
    assert.deepEqual([hostname, Number(sectors) * 512], [name, 9 * 1024 ** 3]);
    assert.ok(Number(blocks) * 4096 > 8.4 * 1024 ** 3);
    // The third is the machine that waits since the second.
    if (name === 'second') await settled(isReady);
    if (name === 'second') assert.equal(await isReady(), true);
  }
  await other.ok(['vm', 'delete', 'first', 'second', 'third']);
});

test('what it cannot do is refused up front, by name, and doctor says so', async () => {
  const nat = await home.run(['vm', 'create', '--nat', '--name', 'x']);
  assert.notEqual(nat.status, 0);
  assert.match(nat.stderr, /firecracker have no network[^]*--nat/);
  assert.deepEqual(await home.vms(), []);
  const tcg = await home.run(['vm', 'create', '--accel', 'tcg', '--name', 'x']);
  assert.match(tcg.stderr, /needs KVM/);
  const doctor = await home.run(['doctor']);
  assert.match(doctor.stdout.toString(), /Firecracker 1\.17\.0 \(usable: [^]*no network \(--nat\)/);
});

test('after a change of driver a VM that runs is still found, and one that does not is not started', async () => {
  await home.ok(['vm', 'create', '--name', 'dev']);
  await home.ok(['daemon', 'stop']);
  const file = join(home.dir, 'config', 'config.toml');
  writeFileSync(file, settings('qemu'), { mode: 0o600 });
  assert.equal(await home.guest('dev', 'hostname'), 'dev');
  await home.ok(['vm', 'stop', 'dev']);
  const refused = await home.run(['vm', 'start', 'dev']);
  assert.match(refused.stderr, /"dev" was made for firecracker, and this daemon uses qemu/);
  await home.ok(['vm', 'delete', 'dev']);
  await home.ok(['daemon', 'stop']);
  writeFileSync(file, settings('firecracker'), { mode: 0o600 });
});
