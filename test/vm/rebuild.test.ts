/** A state database that is lost, or older than the VMs: no VM is lost with it, and none that runs is ended. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { StateRebuilt, StateRestored } from '../../src/api/results/state.ts';
import type { VmDetail } from '../../src/api/results/vm.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

const SMALL = ['--memory', '512M'] as const;

describe('a lost state', () => {
  let home: TestHome;
  let runs: VmDetail;
  before(async () => {
    home = TestHome.warm();
    await home.ok(['vm', 'create', '--name', 'rests', ...SMALL]);
    await home.guest('rests', 'sh', '-c', 'echo of rests > /root/file');
    await home.ok(['vm', 'stop', 'rests']);
    await home.ok(['vm', 'set', 'rests', '--vcpu', '1']);
    await home.ok(['vm', 'create', '--name', 'never', '--no-start']);
    await home.ok(['vm', 'create', '--name', 'runs', ...SMALL]);
    await home.guest('runs', 'sh', '-c', 'echo of runs > /root/file; echo in memory > /dev/shm/file');
    runs = await home.show('runs');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  const database = (): string => join(home.dir, 'state', 'state.db');
  const files = (): readonly string[] =>
    readdirSync(join(home.dir, 'state')).filter((name) => name.startsWith('state.db'));
  const states = async (): Promise<Readonly<Record<string, string>>> =>
    Object.fromEntries((await home.vms()).map(({ name, state }) => [name, state]));
  const sql = (text: string): string => execFileSync('sqlite3', [database(), text], { encoding: 'utf8' });

  /** Until its process is gone, and with it its hold on the database. */
  async function stopDaemon(): Promise<void> {
    await home.ok(['daemon', 'stop']);
    const daemon = () => home.processes().find(({ command }) => command.includes('bangerd'));
    await settled(() => daemon() === undefined);
    assert.equal(daemon(), undefined);
  }

  /** The same boot of the same process, with what only its memory holds. */
  async function assertStillRuns(name = 'runs'): Promise<void> {
    const now = await home.show(name);
    assert.deepEqual(
      [now.id, now.state, now.pid, now.runtime.bootId],
      [runs.id, 'running', runs.pid, runs.runtime.bootId],
    );
    assert.equal(
      await home.guest(name, 'cat', '/proc/sys/kernel/random/boot_id', '/dev/shm/file', '/root/file'),
      `${runs.runtime.bootId}\nin memory\nof runs`,
    );
  }

  test('without its database the daemon does not start, and says what to do', async () => {
    await stopDaemon();
    for (const name of files()) rmSync(join(home.dir, 'state', name));
    const { status, stderr } = await home.run(['vm', 'list']);
    assert.equal(status, 1);
    assert.match(stderr, /state\.db is missing or empty, but 3 VMs lie in \S+\/state\/vms/);
    assert.match(stderr, /`banger state rebuild`/);
    assert.deepEqual(files(), [], 'no database was made');
    assert.ok(isAlive(runs.pid));
  });

  test('state rebuild brings every VM back as it was, the running one included', async () => {
    const said = await home.json<StateRebuilt>(['state', 'rebuild', '--dry-run']);
    assert.deepEqual(files(), []);
    const rebuilt = await home.json<StateRebuilt>(['state', 'rebuild']);
    assert.deepEqual(rebuilt.added, said.added);
    const names = rebuilt.added.map(({ kind, name }) => `${kind} ${name}`);
    assert.deepEqual(names, ['image debian-bookworm', 'vm rests', 'vm never', 'vm runs']);
    assert.deepEqual([rebuilt.skipped, rebuilt.restored?.missing], [[], []]);
    assert.deepEqual(await states(), { rests: 'stopped', never: 'created', runs: 'running' });
    await assertStillRuns();
    assert.equal((await home.show('rests')).spec.vcpus, 1);
    await home.ok(['vm', 'start', 'rests']);
    assert.equal(await home.guest('rests', 'cat', '/root/file'), 'of rests');
    assert.equal(await home.guest('rests', 'nproc'), '1');
    await home.ok(['vm', 'stop', 'rests']);
    assert.equal(
      (await home.json<StateRebuilt>(['state', 'rebuild', '--dry-run'])).added.length,
      0,
      'nothing is lost any more',
    );
  });

  test('a single row that is lost costs nothing but the row; a name given out meanwhile stays given', async () => {
    await stopDaemon();
    sql("DELETE FROM vms WHERE name = 'runs'");
    assert.deepEqual(await states(), { rests: 'stopped', never: 'created' });
    assert.ok(isAlive(runs.pid));
    assert.ok(existsSync(runs.vmDir));
    assert.match(home.log(), /a VM without a row is left alone/);
    await home.ok(['vm', 'create', '--name', 'runs', '--no-start']);
    const refused = await home.run(['state', 'rebuild']);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /banger daemon stop/);
    await stopDaemon();
    const { added } = await home.json<StateRebuilt>(['state', 'rebuild']);
    assert.deepEqual(
      added.map(({ id, name }) => [id, name]),
      [[runs.id, 'runs-2']],
    );
    assert.match(added[0]?.note ?? '', /the name "runs" is taken/);
    await assertStillRuns('runs-2');
    await home.ok(['vm', 'delete', 'runs']);
    await stopDaemon();
    sql("UPDATE vms SET name = 'runs' WHERE name = 'runs-2'");
    await assertStillRuns();
  });

  test('after a restore of an older state: what runs is found, what ended is stopped', async () => {
    await home.ok(['vm', 'stop', 'runs']);
    await home.ok(['state', 'export', '--ref', 'older']);
    await home.ok(['vm', 'start', 'runs']);
    await home.guest('runs', 'sh', '-c', 'echo in memory > /dev/shm/file');
    runs = await home.show('runs');
    await stopDaemon();
    const refused = await home.run(['state', 'bootstrap', 'older', '--force']);
    assert.equal(refused.status, 1);
    const [, rollback = ''] = /--allow-rollback (\d+:\d+)/.exec(refused.stderr) ?? [];
    const restored = await home.json<StateRestored>([
      ...['state', 'bootstrap', 'older', '--force', '--allow-rollback', rollback],
    ]);
    assert.ok(existsSync(restored.previous ?? ''));
    assert.deepEqual(await states(), { rests: 'stopped', never: 'created', runs: 'running' });
    await assertStillRuns();
  });

  test('a VM whose disk is not here is not started with an empty one', async () => {
    const { vmDir, id } = await home.show('rests');
    const elsewhere = join(home.dir, 'elsewhere');
    renameSync(vmDir, elsewhere);
    const { status, stderr } = await home.run(['vm', 'start', 'rests']);
    assert.equal(status, 1);
    assert.match(
      stderr,
      new RegExp(`VM "rests" has no disk: .*${id}/root.qcow2 is not there\n.*banger vm delete rests`),
    );
    assert.equal((await home.show('rests')).state, 'stopped');
    renameSync(elsewhere, vmDir);
    await home.ok(['vm', 'start', 'rests']);
    assert.equal(await home.guest('rests', 'cat', '/root/file'), 'of rests');
    await home.ok(['vm', 'stop', 'rests']);
  });

  test('killed at whatever moment of a deletion, the VM is there or it is gone', async () => {
    for (const delayMs of [60, 90, 120, 180]) {
      await home.ok(['vm', 'create', '--name', 'doomed', '--no-start']);
      const { vmDir } = await home.show('doomed');
      const running = home.start(['vm', 'delete', 'doomed']);
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      const daemon = home.processes().find(({ command }) => command.includes('bangerd'));
      assert.ok(daemon !== undefined);
      process.kill(daemon.pid, 'SIGKILL');
      await settled(() => !isAlive(daemon.pid));
      await running.done;
      const isThere = (await home.vms()).some(({ name }) => name === 'doomed');
      assert.equal(existsSync(join(vmDir, 'vm.json')), isThere);
      assert.equal(existsSync(vmDir), isThere);
      if (isThere) await home.ok(['vm', 'delete', 'doomed']);
    }
    await assertStillRuns();
  });
});
