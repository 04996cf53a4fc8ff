/** Snapshots as users meet them: names, what is refused and why, what a VM is put back to, who uses what at once. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { DaemonStatus } from '../../src/api/results/daemon.ts';
import type { VmSnapshotDetail, VmSnapshotList, VmSnapshotTaken } from '../../src/api/results/snapshot.ts';
import type { BangerError } from '../../src/core/errors.ts';
import { connect } from '../../src/rpc/client.ts';
import { drop, forkOf, snapshot, source } from '../helpers/copies.ts';
import { settled, TestHome } from '../helpers/test-home.ts';

describe('snapshots of VMs', () => {
  let home: TestHome;
  const names = async () =>
    (await home.json<VmSnapshotList>(['vm', 'snapshot', 'list'])).snapshots.map(({ name }) => name);
  before(async () => {
    home = TestHome.warm();
    await source(home);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('names: made up, given, taken, the same for two at once, one that a VM has', async () => {
    assert.equal(await home.ok(['vm', 'snapshot', 'create', 'dev', '--disk-only']), 'dev-1\n');
    assert.equal(await home.ok(['vm', 'snapshot', 'create', 'dev', '--disk-only', '--name', 'dev']), 'dev\n');
    const taken = await home.run(['vm', 'snapshot', 'create', 'dev', '--name', 'dev-1']);
    assert.match(taken.stderr, /^banger: there is a snapshot "dev-1"\nbanger vm snapshot delete dev-1/);
    const odd = await home.run(['vm', 'snapshot', 'create', 'dev', '--name', '../x']);
    assert.equal(odd.status, 1);
    const two = await Promise.all(
      [1, 2].map(() => home.run(['vm', 'snapshot', 'create', 'dev', '--disk-only', '--name', 'race'])),
    );
    assert.deepEqual(two.map(({ status }) => String(status)).sort(), ['0', '1']);
    const made = await Promise.all(
      [1, 2].map(() => home.ok(['vm', 'snapshot', 'create', 'dev', '--disk-only'])),
    );
    assert.deepEqual(made.sort(), ['dev-2\n', 'dev-3\n']);
    assert.deepEqual((await names()).sort(), ['dev', 'dev-1', 'dev-2', 'dev-3', 'race']);
    const gone = await home.run([
      'vm',
      'snapshot',
      'delete',
      'dev-1',
      'nothing',
      'dev-2',
      'dev-3',
      'dev',
      'race',
    ]);
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /no snapshot "nothing"/);
    assert.deepEqual(await names(), []);
  });

  test('a VM is put back in size, too: what `vm set` changed since is as it was', async () => {
    await home.guest('dev', 'sh', '-c', 'echo 1 > /dev/shm/then');
    await snapshot(home, 'dev', 'small');
    await home.ok(['vm', 'stop', 'dev']);
    await home.ok(['vm', 'set', 'dev', '--memory', '640M', '--vcpu', '1', '--disk-size', '10G', '--nat']);
    await home.ok(['vm', 'start', 'dev']);
    const grown = await home.guest('dev', 'sh', '-c', 'df -B1G --output=size / | tail -1');
    const refused = await home.run(['vm', 'snapshot', 'restore', 'small']);
    assert.match(
      refused.stderr,
      /^banger: VM "dev" is running: what it does now would be lost\nbanger vm stop dev/,
    );
    await home.ok(['vm', 'snapshot', 'restore', 'small', '--force']);
    const { spec, state } = await home.show('dev');
    assert.deepEqual(
      [state, spec.memoryMib, spec.vcpus, spec.diskSizeBytes, spec.nat],
      ['running', 512, 2, 8 * 1024 ** 3, false],
    );
    assert.equal(await home.guest('dev', 'cat', '/dev/shm/then'), '1');
    assert.ok(
      Number(await home.guest('dev', 'sh', '-c', 'df -B1G --output=size / | tail -1')) < Number(grown),
    );
    await home.ok(['vm', 'restart', 'dev']);
    assert.equal(await home.guest('dev', 'nproc'), '2');
  });

  test('what is kept can be shown, outlives the daemon, and is used again and again', async () => {
    const shown = await home.json<VmSnapshotDetail>(['vm', 'snapshot', 'show', 'small']);
    assert.deepEqual([shown.problem, shown.withMemory, shown.vm.exists], [null, true, true]);
    assert.match(shown.needs['VMM'] ?? '', /QEMU/);
    await home.ok(['daemon', 'stop']);
    for (const round of [1, 2]) {
      const [copy = ''] = await forkOf(home, 'small', 1);
      assert.equal(await home.guest(copy, 'cat', '/dev/shm/then'), '1', `${round}`);
      await drop(home, [copy]);
    }
  });

  test('one that is not what was written is refused, and what the VM has stays; so is one of another machine', async () => {
    const damage = async (change: (dir: string) => () => void, message: RegExp): Promise<void> => {
      const { dir } = await home.json<VmSnapshotDetail>(['vm', 'snapshot', 'show', 'small']);
      const before = (await home.show('dev')).runtime.bootId;
      await home.ok(['daemon', 'stop']);
      const mend = change(dir);
      for (const args of [
        ['restore', 'small', '--force'],
        ['fork', '--snapshot', 'small'],
      ]) {
        const command = args[0] === 'fork' ? ['vm', ...args] : ['vm', 'snapshot', ...args];
        const refused = await home.run(command);
        assert.equal(refused.status, 1);
        assert.match(refused.stderr, message);
      }
      assert.deepEqual(
        [(await home.show('dev')).state, (await home.show('dev')).runtime.bootId],
        ['running', before],
      );
      assert.equal((await home.vms()).length, 1);
      mend();
    };
    const flip = (file: string) => (dir: string) => {
      const path = join(dir, file);
      const bytes = readFileSync(path);
      const at = bytes.findIndex((byte) => byte !== 0);
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      writeFileSync(path, changed);
      return () => writeFileSync(path, bytes);
    };
    for (const file of ['memory', 'root.qcow2', 'state']) {
      await damage(flip(file), /^banger: .*(not what was written)/);
    }
    const edit = (from: RegExp, to: string) => (dir: string) => {
      const path = join(dir, 'manifest.json');
      const text = readFileSync(path, 'utf8');
      assert.match(text, from);
      writeFileSync(path, text.replace(from, to));
      return () => writeFileSync(path, text);
    };
    await damage(
      edit(/QEMU emulator version [^"]*/, 'QEMU emulator version 1.0'),
      /is of another machine: VMM: QEMU emulator version 7.*, not QEMU emulator version 1\.0\n--disk-only/,
    );
    await damage(
      edit(/"rootfsSha256": "[0-9a-f]{8}/, '"rootfsSha256": "00000000'),
      /needs the image .* is another one/,
    );
  });

  test('its disk can be used where its memory cannot', async () => {
    const { dir } = await home.json<VmSnapshotDetail>(['vm', 'snapshot', 'show', 'small']);
    const path = join(dir, 'manifest.json');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replace(/QEMU emulator version [^"]*/, 'QEMU emulator version 1.0'));
    const shown = await home.json<VmSnapshotDetail>(['vm', 'snapshot', 'show', 'small']);
    assert.match(shown.problem ?? '', /another machine/);
    const name = (await home.ok(['vm', 'fork', '--snapshot', 'small', '--disk-only'])).trim();
    assert.equal(await home.guest(name, 'hostname'), name);
    await drop(home, [name]);
    writeFileSync(path, text);
  });

  test('a damaged one is listed with what is wrong, does not hinder others, and can be deleted', async () => {
    const { snapshot: made } = await home.json<VmSnapshotTaken>([
      'vm',
      'snapshot',
      'create',
      'dev',
      '--disk-only',
    ]);
    truncateSync(join(made.dir, 'manifest.json'), 10);
    assert.match(
      await home.ok(['vm', 'snapshot', 'list']),
      new RegExp(`${made.id.slice(0, 12)}: .*manifest`),
    );
    assert.deepEqual(await names(), ['small']);
    const refused = await home.run(['vm', 'fork', '--snapshot', made.id.slice(0, 12)]);
    assert.match(refused.stderr, /is damaged: [^\n]*\nbanger vm snapshot delete [0-9a-f]{12}/s);
    await home.ok(['vm', 'snapshot', 'delete', made.id.slice(0, 12)]);
    assert.deepEqual(readdirSync(join(made.dir, '..')).length, 1);
  });

  test('it cannot be deleted while VMs are started from it; afterwards they do not need it', async () => {
    const { version, socketPath } = await home.json<DaemonStatus>(['daemon', 'status']);
    const client = await connect({ socketPath, version });
    const refusals: Promise<unknown>[] = [];
    const onProgress = ({ step }: { readonly step: string }): void => {
      if (step !== 'fork' || refusals.length > 0) return;
      refusals.push(client.call('snapshot.delete', { snapshot: 'small' }).catch((error: unknown) => error));
    };
    const params = { snapshot: 'small', count: 6, name: 'many' };
    const { vms } = await client.call('vm.fork', params, { onProgress });
    assert.equal(((await refusals[0]) as BangerError).code, 'in_use');
    client.close();
    const copies = vms.map(({ name }) => name);
    assert.deepEqual(
      [...copies].sort(),
      [1, 2, 3, 4, 5, 6].map((number) => `many-${number}`),
    );
    await home.ok(['vm', 'snapshot', 'delete', 'small']);
    for (const vm of copies.slice(0, 2)) assert.equal(await home.guest(vm, 'cat', '/dev/shm/then'), '1');
    await drop(home, copies);
  });

  test('a fork and a deletion of its source at once: the one or the other, and nothing half', async () => {
    await home.ok(['vm', 'create', '--name', 'brief', '--memory', '512M']);
    const [forked, deleted] = await Promise.all([
      home.run(['vm', 'fork', 'brief', '--count', '2']),
      home.run(['vm', 'delete', 'brief']),
    ]);
    assert.equal(deleted.status, 0);
    const left = (await home.vms()).map(({ name }) => name).filter((name) => name !== 'dev');
    assert.deepEqual(left.sort(), forked.status === 0 ? ['brief-1', 'brief-2'] : []);
    for (const vm of left) assert.equal(await home.guest(vm, 'hostname'), vm);
    if (left.length > 0) await drop(home, left);
  });

  test('two forks of one VM at once have names of their own', async () => {
    const both = await Promise.all([1, 2].map(() => home.ok(['vm', 'fork', 'dev', '--count', '2'])));
    const made = both.flatMap((text) => text.trim().split('\n'));
    assert.deepEqual([...made].sort(), ['dev-1', 'dev-2', 'dev-3', 'dev-4']);
    await drop(home, made);
  });

  test('of a stopped VM it has the disk; of one whose QEMU was killed, what was on it', async () => {
    await home.guest('dev', 'sh', '-c', 'echo there > /root/there; sync');
    const { pid } = await home.show('dev');
    process.kill(pid ?? assert.fail('it has no pid'), 'SIGKILL');
    await settled(async () => (await home.show('dev')).state === 'error');
    await snapshot(home, 'dev', 'dead');
    assert.equal((await home.json<VmSnapshotDetail>(['vm', 'snapshot', 'show', 'dead'])).withMemory, false);
    const refused = await home.run(['vm', 'fork', 'dev']);
    assert.match(refused.stderr, /^banger: cannot fork VM "dev": it is error\nbanger vm start dev/);
    await home.ok(['vm', 'snapshot', 'restore', 'dead']);
    assert.equal((await home.show('dev')).state, 'stopped');
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/there'), 'there');
  });
});
