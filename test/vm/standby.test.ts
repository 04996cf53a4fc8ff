/** The machine that waits for the next VM: one VM gets it, as a machine of its own, and it never stays behind. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { DaemonStatus } from '../../src/api/results/daemon.ts';
import type { VmCreated } from '../../src/api/results/vm.ts';
import { SMALL_WITH_STANDBY, theTemplate } from '../helpers/template-settings.ts';
import { settled, TestHome } from '../helpers/test-home.ts';

const CLOCK_BOUND_MS = 100;
const WAIT_MS = 60_000;

describe('the machine that waits', () => {
  let home: TestHome;
  before(async () => {
    home = new TestHome(SMALL_WITH_STANDBY);
    await home.ok(['image', 'warm']);
    await theTemplate(home);
    // It is made in the wake of a start.
    await home.ok(['vm', 'run', '--rm', '--', 'true']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  /** Until one waits. @returns its id */
  async function waiting(): Promise<string> {
    const isReady = async () => (await home.json<DaemonStatus>(['daemon', 'status'])).standby;
    await settled(isReady, WAIT_MS);
    return marked(home) ?? assert.fail('no machine waits');
  }

  async function create(name: string, ...flags: readonly string[]): Promise<VmCreated> {
    return await home.json<VmCreated>(['vm', 'create', '--name', name, ...flags]);
  }

  test('the next VM is that machine, under its own name, with an address, a clock and randomness of its own', async () => {
    const first = await waiting();
    const { vm } = await create('one');
    assert.equal(vm.id, first);
    assert.equal(vm.runtime.startedFrom, 'template');
    assert.equal(await home.guest('one', 'hostname'), 'one');
    assert.equal(await home.guest('one', 'cat', '/etc/hostname'), 'one');
    assert.match(await home.guest('one', 'cat', '/etc/hosts'), /\sone(\s|$)/);
    assert.doesNotMatch(await home.guest('one', 'cat', '/etc/hosts', '/etc/hostname'), /standby|192\.0\.2/);
    assert.match(await home.guest('one', 'ip', '-o', '-4', 'addr'), new RegExp(` ${vm.guestIp}/24 `));
    assert.equal(await home.guest('one', 'cat', '/proc/sys/kernel/random/boot_id'), vm.runtime.bootId);
    const before = Date.now();
    const guest = Number(await home.guest('one', 'date', '+%s%3N'));
    assert.ok(guest >= before - CLOCK_BOUND_MS && guest <= Date.now() + CLOCK_BOUND_MS, `${guest - before}`);
    assert.notEqual(await waiting(), first);
    const second = await create('two');
    const different = ['/etc/machine-id', '/proc/sys/kernel/random/boot_id', '/proc/sys/kernel/random/uuid'];
    for (const path of different) {
      assert.notEqual(await home.guest('one', 'cat', path), await home.guest('two', 'cat', path), path);
    }
    assert.notEqual(second.vm.id, vm.id);
    await home.ok(['vm', 'delete', 'one', 'two']);
  });

  test('it has its VM’s network: none outbound, or with --nat the host’s side of it', async () => {
    await waiting();
    await create('closed');
    await waiting();
    await create('open', '--nat');
    const ask = ['sh', '-c', 'ip route show default; cat /etc/resolv.conf'];
    assert.doesNotMatch(await home.guest('closed', ...ask), /default via|^nameserver/m);
    assert.match(
      await home.guest('open', ...ask),
      /default via 172\.16\.0\.1 [\s\S]*^nameserver 172\.16\.0\.254/m,
    );
    // The gateway answers pings of an open network only where something is plugged in.
    const gateway = [
      'sh',
      '-c',
      'ip neigh flush all; timeout 5 bash -c "</dev/tcp/172.16.0.1/1" 2>/dev/null; ip neigh',
    ];
    assert.match(await home.guest('open', ...gateway), /172\.16\.0\.1 .*lladdr/);
    await home.ok(['vm', 'delete', 'closed', 'open']);
  });

  test('a VM of another kind, and one with --cold, does without', async () => {
    const waits = await waiting();
    const cold = await create('cold', '--cold');
    const large = await create('large', '--disk-size', '16G');
    assert.ok(cold.vm.id !== waits && large.vm.id !== waits);
    assert.deepEqual([cold.vm.runtime.startedFrom, large.vm.runtime.startedFrom], ['boot', 'template']);
    await home.ok(['vm', 'delete', 'cold', 'large']);
  });

  test('a creation that fails before it has the machine ends it', async () => {
    await home.ok(['vm', 'run', '--rm', '--', 'true']);
    const waits = await waiting();
    await create('holder', '-p', '18099:1');
    await waiting();
    const refused = await home.run(['vm', 'create', '--name', 'refused', '-p', '18099:1']);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /VM "holder" has that port/);
    assert.ok(!existsSync(join(home.dir, 'state', 'vms', waits, 'standby')));
    await home.ok(['vm', 'delete', 'holder']);
    const vms = await home.json<readonly unknown[]>(['vm', 'list']);
    assert.deepEqual(vms, []);
  });

  test('doctor takes it for what it is; a new daemon after a kill -9 leaves nothing of the old one', async () => {
    await home.ok(['vm', 'run', '--rm', '--', 'true']);
    const waits = await waiting();
    const report = (await home.run(['doctor', '--json'])).stdout.toString();
    assert.ok(!report.includes(waits), report);
    const { pid } = await home.json<{ pid: number }>(['daemon', 'status']);
    process.kill(pid, 'SIGKILL');
    await home.ok(['vm', 'list']);
    assert.ok(!existsSync(join(home.dir, 'state', 'vms', waits)));
    await home.ok(['vm', 'run', '--rm', '--', 'true']);
  });
});

/** The id of the machine that waits, if one does. */
function marked(home: TestHome): string | undefined {
  const dir = join(home.dir, 'state', 'vms');
  return readdirSync(dir).find((id) =>
    readdirSync(join(dir, id)).some((name) => name.startsWith('.standby.')),
  );
}
