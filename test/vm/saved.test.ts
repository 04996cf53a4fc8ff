/** VMs that are saved on request, and what ends in the middle of that: nothing is lost that was kept. */

import assert from 'node:assert/strict';
import { existsSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmDetail } from '../../src/api/results/vm.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

/** Parts of the time that a save, or a wake, takes undisturbed. */
const MOMENTS = [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95];

describe('vm pause --save', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await home.ok(['vm', 'run', '-d', '--name', 'dev', '--memory', '512M']);
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  async function write(word: string): Promise<void> {
    await home.guest('dev', 'sh', '-c', `echo ${word} | tee /dev/shm/memory > /root/disk; sync`);
  }

  /** What the guest has in memory and on disk, if it is the one that wrote it. */
  async function read(): Promise<string> {
    return (
      await home.run(['vm', 'exec', 'dev', '--', 'cat', '/dev/shm/memory', '/root/disk'])
    ).stdout.toString();
  }

  async function save(): Promise<VmDetail> {
    assert.equal(await home.ok(['vm', 'pause', '--save', 'dev']), 'dev: saved\n');
    return await home.show('dev');
  }

  async function killDaemon(): Promise<void> {
    const daemon = await home.daemonPid();
    process.kill(daemon, 'SIGKILL');
    await settled(() => !isAlive(daemon));
  }

  async function took(args: readonly string[]): Promise<number> {
    const began = performance.now();
    await home.ok(args);
    return performance.now() - began;
  }

  test('it stays so until it is resumed; what needs the guest is refused with what helps', async () => {
    await write('one');
    const { pid } = await home.show('dev');
    const { state, vmDir } = await save();
    assert.equal(state, 'saved');
    assert.ok(!isAlive(pid));
    for (const [args, status] of [
      [['vm', 'exec', 'dev', '--', 'true'], 125],
      [['vm', 'health', 'dev'], 1],
      [['vm', 'fork', 'dev'], 1],
      [['vm', 'snapshot', 'create', 'dev'], 1],
    ] as const) {
      const refused = await home.run(args);
      assert.equal(refused.status, status, args.join(' '));
      assert.match(refused.stderr, /^banger: cannot [a-z ]+ VM "dev": it is saved\nbanger vm resume dev\n/);
    }
    const set = await home.run(['vm', 'set', 'dev', '--vcpu', '1']);
    assert.match(set.stderr, /it is saved\nbanger vm stop dev\n/);
    assert.equal(await home.ok(['vm', 'pause', 'dev']), 'dev: paused\n');
    assert.equal(await home.ok(['vm', 'pause', '--save', 'dev']), 'dev: saved\n');
    const bytes = statSync(join(vmDir, 'saved', 'memory')).blocks * 512;
    await home.ok(['vm', 'stats', 'dev']);
    assert.ok(((await home.show('dev')).stats.diskBytes ?? 0) > bytes);
    assert.equal(await home.ok(['vm', 'start', 'dev']), 'dev: started\n');
    assert.equal(await read(), 'one\none\n');
    assert.equal(existsSync(join(vmDir, 'saved')), false);
  });

  test('a command that runs in it is a reason to refuse; one that is paused can be saved', async () => {
    const command = home.start(['vm', 'exec', 'dev', '--', 'cat'], { keepInput: true });
    await settled(async () => (await home.guest('dev', 'pgrep', '-c', 'cat')) === '1');
    const refused = await home.run(['vm', 'pause', '--save', 'dev']);
    assert.match(
      refused.stderr,
      /^banger: a command runs in VM "dev", and would end\n.*banger vm pause dev\n/,
    );
    command.child.stdin.end();
    await command.done;
    await home.ok(['vm', 'pause', 'dev']);
    await home.ok(['vm', 'snapshot', 'create', 'dev']);
    await save();
    await home.ok(['vm', 'restart', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/disk'), 'one');
  });

  test('kill -9 of the daemon at any moment of a save and of a wake loses nothing', async () => {
    await write('two');
    const saveMs = await took(['vm', 'pause', '--save', 'dev']);
    const wakeMs = await took(['vm', 'resume', 'dev']);
    const found: string[] = [];
    for (const share of MOMENTS) {
      for (const [args, ms] of [
        [['vm', 'pause', '--save', 'dev'], saveMs],
        [['vm', 'resume', 'dev'], wakeMs],
      ] as const) {
        const running = home.start(args);
        await sleep(ms * share);
        await killDaemon();
        await running.done;
        const { state, runtime } = await home.show('dev');
        found.push(`${args[1]} ${share}: ${state}`);
        assert.ok(['running', 'paused', 'saved'].includes(state), found.join(', '));
        assert.equal(runtime.lastError, undefined, found.join(', '));
      }
      await home.ok(['vm', 'resume', 'dev']);
      assert.equal(await read(), 'two\ntwo\n', found.join(', '));
    }
  });

  test('QEMU that is killed during a save: in error, with the disk as it was; during a wake: as it was, or booted', async () => {
    await write('three');
    const saving = home.start(['vm', 'pause', '--save', 'dev']);
    const { pid, vmDir } = await home.show('dev');
    await settled(() => saving.stderr().includes('saving') || !isAlive(pid), 2000);
    process.kill(pid ?? assert.fail('it has no pid'), 'SIGKILL');
    const { status } = await saving.done;
    await settled(async () => (await home.show('dev')).state !== 'paused');
    const { state } = await home.show('dev');
    assert.ok(status === 0 ? state === 'saved' : state === 'error', `${status} ${state}`);
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/disk'), 'three');

    await write('four');
    await save();
    const waking = home.start(['vm', 'resume', 'dev']);
    const handles = join(vmDir, 'handles.json');
    await settled(() => existsSync(handles));
    process.kill((JSON.parse(readFileSync(handles, 'utf8')) as { pid: number }).pid, 'SIGKILL');
    await waking.done;
    await settled(async () => (await home.show('dev')).state !== 'running', 3000);
    if ((await home.show('dev')).state !== 'running') await home.ok(['vm', 'start', 'dev']);
    assert.equal(await home.guest('dev', 'cat', '/root/disk'), 'four');
  });

  test('memory that was changed on disk is not used: it is booted, and says why', async () => {
    await write('five');
    const { vmDir, runtime } = await save();
    const file = openSync(join(vmDir, 'saved', 'memory'), 'r+');
    writeSync(file, 'damage', 64 * 1024);
    assert.equal(await home.ok(['vm', 'resume', 'dev']), 'dev: resumed\n');
    const after = await home.show('dev');
    assert.notEqual(after.runtime.bootId, runtime.bootId);
    assert.match(after.runtime.lastError ?? '', /^it was booted instead .* is not what was written$/);
    assert.equal(await read(), 'five\n');
  });

  test('another QEMU than it was saved with: it stays saved, says what differs, and kill and start boot it', async () => {
    await write('six');
    const { vmDir } = await save();
    const path = join(vmDir, 'machine.json');
    const facts = JSON.parse(readFileSync(path, 'utf8')) as { shape: Record<string, string> };
    const [key = ''] = Object.keys(facts.shape);
    const right = readFileSync(path);
    writeFileSync(
      path,
      JSON.stringify({ ...facts, shape: { ...facts.shape, [key]: 'QEMU of another time' } }),
    );
    const refused = await home.run(['vm', 'resume', 'dev']);
    assert.match(
      refused.stderr,
      /^banger: VM "dev" cannot go on from its saved memory: .*QEMU of another time/,
    );
    assert.match(refused.stderr, /\nbanger vm kill dev gives that memory up/);
    assert.equal((await home.show('dev')).state, 'saved');
    writeFileSync(path, right);
    await home.ok(['vm', 'resume', 'dev']);
    assert.equal(await read(), 'six\nsix\n');
    await save();
    await home.ok(['vm', 'kill', 'dev']);
    assert.equal((await home.show('dev')).state, 'stopped');
    await home.ok(['vm', 'start', 'dev']);
    assert.equal(await read(), 'six\n');
  });
});
