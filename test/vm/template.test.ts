/** VMs that start from a template: each is its own machine, and whatever is wrong with a template, the VM comes up. */

import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ImageWarmed } from '../../src/api/results/image.ts';
import type { VmCreated } from '../../src/api/results/vm.ts';
import { initRepo } from '../helpers/host-repo.ts';
import { failures, forgeState, SMALL_WITH_TEMPLATES, theTemplate } from '../helpers/template-settings.ts';
import { settled, TestHome } from '../helpers/test-home.ts';

const CLOCK_BOUND_MS = 100;

async function startedFrom(home: TestHome, name: string): Promise<string | undefined> {
  return (await home.show(name)).runtime.startedFrom;
}

async function create(home: TestHome, name: string, ...flags: readonly string[]): Promise<VmCreated> {
  return await home.json<VmCreated>(['vm', 'create', '--name', name, ...flags]);
}

async function remove(home: TestHome, ...names: readonly string[]): Promise<void> {
  await home.ok(['vm', 'delete', ...names]);
}

describe('templates', () => {
  let home: TestHome;
  before(async () => {
    home = new TestHome(SMALL_WITH_TEMPLATES);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  test('the first VM is booted, a template is made in its wake, and the next ones start from it', async () => {
    await create(home, 'first');
    assert.equal(await startedFrom(home, 'first'), 'boot');
    await theTemplate(home);
    await create(home, 'one', '--disk-size', '16G');
    await create(home, 'two');
    assert.equal(await startedFrom(home, 'one'), 'template');
    assert.equal(await startedFrom(home, 'two'), 'template');
    assert.match(await home.ok(['vm', 'show', 'one']), /^started from +template$/m);
    await create(home, 'cold', '--cold');
    assert.equal(await startedFrom(home, 'cold'), 'boot');
    assert.match(await home.ok(['image', 'list']), / 1 \([\d.]+M\) /);
    await remove(home, 'first', 'cold');
  });

  test('image warm says that it is there; doctor and df know of it', async () => {
    const warmed = await home.json<ImageWarmed>(['image', 'warm']);
    assert.equal(warmed.existed, true);
    const dir = await theTemplate(home);
    assert.ok(dir.includes(`/${warmed.template.key}`));
    assert.ok(warmed.template.allocatedBytes < statSync(join(dir, 'memory')).size / 2);
    assert.match(await home.ok(['system', 'df']), /^templates +1 +[\d.]+M +[\d.]+M /m);
    const doctor = (await home.run(['doctor', '--json'])).stdout.toString();
    assert.match(doctor, /"found": "1, [\d.]+ MiB of 4 GiB"/);
  });

  test('a clone is its own machine', async () => {
    for (const name of ['one', 'two']) {
      const { id, guestIp, argv, runtime } = await home.show(name);
      assert.equal(await home.guest(name, 'hostname'), name);
      assert.match(await home.guest(name, 'cat', '/etc/hosts'), new RegExp(`\\s${name}(\\s|$)`));
      assert.match(await home.guest(name, 'ip', '-o', '-4', 'addr'), new RegExp(` ${guestIp}/24 `));
      const mac = `52:54:00:${id.slice(0, 2)}:${id.slice(2, 4)}:${id.slice(4, 6)}`;
      assert.match(await home.guest(name, 'ip', '-o', 'link'), new RegExp(`link/ether ${mac} `));
      assert.equal(await home.guest(name, 'cat', '/proc/sys/kernel/random/boot_id'), runtime.bootId);
      assert.ok(
        argv.some((word) => word.includes('restrict=on')),
        argv.join(' '),
      );
      const route = ['sh', '-c', 'timeout 3 bash -c "</dev/tcp/172.16.0.1/22" 2>&1; echo $?'];
      assert.doesNotMatch(await home.guest(name, ...route), /^0$/);
    }
    const different = ['/etc/machine-id', '/proc/sys/kernel/random/boot_id'];
    for (const path of different) {
      const [one, two] = [await home.guest('one', 'cat', path), await home.guest('two', 'cat', path)];
      assert.ok(one.length >= 32 && one !== two, path);
    }
    const sizes = ['one', 'two'].map(async (name) => {
      return Number(await home.guest(name, 'sh', '-c', 'df --output=size -B1 / | tail -1')) / 1024 ** 3;
    });
    const [grown = 0, same = 0] = await Promise.all(sizes);
    assert.ok(grown > 15 && grown <= 16, `${grown}`);
    assert.ok(same > 7 && same <= 8, `${same}`);
  });

  test('the clock of a clone is right', async () => {
    const earliest = Date.now();
    const guest = Number(await home.guest('one', 'date', '+%s%3N'));
    const latest = Date.now();
    assert.ok(guest >= earliest - CLOCK_BOUND_MS, `${earliest - guest} ms behind`);
    assert.ok(guest <= latest + CLOCK_BOUND_MS, `${guest - latest} ms ahead`);
  });

  test('no two clones draw the same random bytes or make the same key', async () => {
    const draws = [
      ['sh', '-c', 'head -c 32 /dev/urandom | base64'],
      ['cat', '/proc/sys/kernel/random/uuid'],
      ['python3', '-c', 'import os, random; print(os.urandom(16).hex(), random.random())'],
      ['sh', '-c', 'ssh-keygen -q -t ed25519 -N "" -f /tmp/key && cat /tmp/key.pub'],
    ];
    for (const argv of draws) {
      const [one, two] = [await home.guest('one', ...argv), await home.guest('two', ...argv)];
      assert.ok(one.length > 16, argv.join(' '));
      assert.notEqual(one, two);
    }
    await remove(home, 'one', 'two');
  });

  test('a repository, and systemd', async () => {
    const repo = await initRepo(join(home.dir, 'repo'));
    repo.write('hello.txt', 'from the host\n');
    await repo.commit();
    const created = await home.json<VmCreated>(['vm', 'create', '--name', 'repo', repo.dir]);
    assert.equal(created.vm.runtime.startedFrom, 'template');
    assert.equal(await home.guest('repo', 'cat', '/root/repo/hello.txt'), 'from the host');
    await remove(home, 'repo');
    await create(home, 'units', '--init', 'systemd');
    assert.equal(await startedFrom(home, 'units'), 'template');
    await settled(async () => (await home.guest('units', 'cat', '/proc/1/comm')) === 'systemd');
    assert.equal(await home.guest('units', 'cat', '/proc/1/comm'), 'systemd');
    assert.equal(await home.guest('units', 'hostname'), 'units');
    await remove(home, 'units');
  });

  test('a changed byte of memory: the VM is booted, and the template is made again', async () => {
    const dir = await theTemplate(home);
    const { ino } = statSync(join(dir, 'memory'));
    flipByte(join(dir, 'memory'), 1024 * 1024);
    await create(home, 'vm');
    assert.equal(await startedFrom(home, 'vm'), 'boot');
    assert.match(home.log(), /a template is damaged/);
    await settled(() => existsSync(join(dir, 'manifest.json')), 120_000);
    assert.notEqual(statSync(join(await theTemplate(home), 'memory')).ino, ino);
    await remove(home, 'vm');
  });

  test('a changed byte of the state: the same', async () => {
    const dir = await theTemplate(home);
    const { ino } = statSync(join(dir, 'state'));
    flipByte(join(dir, 'state'), 1000);
    await create(home, 'vm');
    assert.equal(await startedFrom(home, 'vm'), 'boot');
    assert.match(failures(home).at(-1)?.reason ?? '', /digest|not what/);
    await settled(() => existsSync(join(dir, 'manifest.json')), 120_000);
    assert.notEqual(statSync(join(await theTemplate(home), 'state')).ino, ino);
    await remove(home, 'vm');
  });

  test('a state that QEMU refuses, and a guest that never answers: booted both times, counted, made again', async () => {
    const dir = await theTemplate(home);
    const { ino } = statSync(join(dir, 'memory'));
    const before = failures(home).length;
    const restoreState = forgeState(dir);
    await create(home, 'vm');
    assert.equal(await startedFrom(home, 'vm'), 'boot');
    assert.equal(failures(home).length, before + 1);
    assert.equal(statSync(join(dir, 'memory')).ino, ino, 'once is not twice');
    await remove(home, 'vm');
    restoreState();
    const over = new AbortController();
    const stopping = stopRestored(home, dir, over.signal);
    await create(home, 'vm');
    over.abort();
    assert.equal(await stopping, 1, 'a restored machine was stopped');
    assert.equal(await startedFrom(home, 'vm'), 'boot');
    assert.equal(failures(home).length, before + 2);
    assert.match(failures(home).at(-1)?.reason ?? '', /within \d+ ms|did not|no hello/);
    await settled(() => existsSync(join(dir, 'manifest.json')), 120_000);
    assert.notEqual(statSync(join(await theTemplate(home), 'memory')).ino, ino);
    await create(home, 'again');
    assert.equal(await startedFrom(home, 'again'), 'template');
    assert.equal(await home.guest('again', 'hostname'), 'again');
    const report = (await home.run(['doctor', '--json'])).stdout.toString();
    assert.match(report, /"found": "3 failed in the last 7 days/);
    await remove(home, 'vm', 'again');
    await home.assertNothingLeft();
  });
});

function flipByte(path: string, at: number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 0xff]), 0, 1, at);
  closeSync(file);
}

/** Stops each machine that is started from the template. @returns how many */
async function stopRestored(home: TestHome, dir: string, over: AbortSignal): Promise<number> {
  const stopped = new Set<number>();
  while (!over.aborted) {
    for (const { pid } of home.commandLines(`${dir}/memory`)) {
      if (stopped.has(pid)) continue;
      stopped.add(pid);
      process.kill(pid, 'SIGSTOP');
    }
    await sleep(5);
  }
  return stopped.size;
}
