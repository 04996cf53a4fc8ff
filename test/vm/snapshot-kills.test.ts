/** Whatever dies while a VM is copied or put back, at whatever step: nothing half is left, and rows say what is true. */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Method, ParamsOf, VmSnapshotList } from '../../src/api/contract.ts';
import { connect } from '../../src/rpc/client.ts';
import { snapshot, source } from '../helpers/copies.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';

/** Of steps that are short, the beginning; of those that take longer, some moments in them. */
const IN_SAVE_MS = [0, 30, 100, 250, 450, 700];

describe('kills while a VM is copied or put back', () => {
  let home: TestHome;
  before(async () => {
    home = new TestHome();
    await source(home);
    await home.guest('dev', 'sh', '-c', 'echo old > /dev/shm/memory; echo old > /root/disk; sync');
    await snapshot(home, 'dev', 'kept');
    await home.guest('dev', 'sh', '-c', 'echo new > /dev/shm/memory; echo new > /root/disk; sync');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  for (const delayMs of IN_SAVE_MS) {
    test(`the daemon, ${delayMs} ms into copying the source of a fork: the source runs`, async () => {
      await killDaemonAt(home, 'vm.fork', { ref: 'dev', count: 2 }, 'save', delayMs);
      await assertWhole(home);
    });
    test(`the daemon, ${delayMs} ms into copying for a snapshot`, async () => {
      await killDaemonAt(home, 'snapshot.create', { ref: 'dev', name: 'half' }, 'save', delayMs);
      await assertWhole(home);
    });
  }

  for (const step of ['digest', 'publish']) {
    for (const delayMs of [0, 60]) {
      test(`the daemon, ${delayMs} ms into ${step} of a snapshot`, async () => {
        await killDaemonAt(home, 'snapshot.create', { ref: 'dev', name: 'half' }, step, delayMs);
        await assertWhole(home);
      });
    }
  }

  for (const delayMs of [0, 150, 400, 900]) {
    test(`the daemon, ${delayMs} ms into starting copies`, async () => {
      await killDaemonAt(home, 'vm.fork', { ref: 'dev', count: 3 }, 'fork', delayMs);
      await assertWhole(home);
    });
  }

  for (const delayMs of [0, 2, 5, 20]) {
    test(`the daemon, ${delayMs} ms into a deletion: there, and whole, or gone`, async () => {
      await snapshot(home, 'dev', 'doomed');
      const client = await connectTo(home);
      const call = client.call('snapshot.delete', { snapshot: 'doomed' }).catch(() => undefined);
      await sleep(delayMs);
      await killDaemon(home);
      await call;
      const left = await snapshotNames(home);
      if (left.includes('doomed')) await home.ok(['vm', 'snapshot', 'delete', 'doomed']);
      await assertWhole(home);
    });
  }

  for (const [step, delayMs] of [
    ['verify', 0],
    ['copy_disk', 0],
    ['replace', 0],
    ['replace', 3],
    ['replace', 10],
    ['replace', 30],
    ['replace', 80],
    ['restore', 0],
    ['restore', 100],
    ['configure', 0],
    ['configure', 60],
  ] as const) {
    test(`the daemon, ${delayMs} ms into ${step} of a restore: as it was, or as it is in the snapshot`, async () => {
      await home.ok(['vm', 'stop', 'dev']);
      await home.ok(['vm', 'set', 'dev', '--memory', '576M']);
      await home.ok(['vm', 'start', 'dev']);
      await home.guest('dev', 'sh', '-c', 'echo new > /dev/shm/memory; echo new > /root/disk; sync');
      await killDaemonAt(home, 'snapshot.restore', { snapshot: 'kept', force: true }, step, delayMs);
      const { state, spec } = await home.show('dev');
      if (state !== 'running') {
        assert.equal(state, 'stopped');
        await home.ok(['vm', 'start', 'dev']);
      }
      const disk = await home.guest('dev', 'cat', '/root/disk');
      assert.deepEqual([disk, spec.memoryMib], disk === 'new' ? ['new', 576] : ['old', 512]);
      if (step === 'verify' || step === 'copy_disk') assert.equal(disk, 'new');
      if (step === 'restore' || step === 'configure') assert.equal(disk, 'old');
      await home.ok(['vm', 'snapshot', 'restore', 'kept', '--force']);
      await assertWhole(home);
    });
  }

  for (const delayMs of [0, 100, 300]) {
    test(`QEMU, ${delayMs} ms into copying it: the copy fails, the VM is in error`, async () => {
      for (const [method, params] of [
        ['vm.fork', { ref: 'dev' }],
        ['snapshot.create', { ref: 'dev', name: 'half' }],
      ] as const) {
        const { pid } = await home.show('dev');
        const error = await failAt(home, method, params, 'save', async () => {
          await sleep(delayMs);
          process.kill(pid ?? assert.fail('it has no pid'), 'SIGKILL');
        });
        // It may have been done just before.
        if (error !== undefined) assert.match(error, /QEMU|VMM/);
        await settled(async () => (await home.show('dev')).state === 'error');
        assert.equal((await home.show('dev')).state, 'error');
        await home.run(['vm', 'snapshot', 'delete', 'half']);
        for (const { name } of await home.vms()) if (name !== 'dev') await home.ok(['vm', 'delete', name]);
        await home.ok(['vm', 'snapshot', 'restore', 'kept']);
        await assertWhole(home);
      }
    });
  }

  test('QEMU of one copy while others start: all go, the source runs', async () => {
    const error = await failAt(home, 'vm.fork', { ref: 'dev', count: 4 }, 'fork', async () => {
      const { pid: own } = await home.show('dev');
      const isCopy = (one: { readonly pid: number; readonly command: string }): boolean =>
        one.command.includes('qemu-system') && one.pid !== own;
      await settled(() => home.processes().some(isCopy));
      const pid = home.processes().find(isCopy)?.pid;
      process.kill(pid ?? assert.fail('no copy started'), 'SIGKILL');
    });
    assert.ok(error !== undefined);
    await assertWhole(home);
  });

  test('a cancellation at any time leaves the source running and nothing else', async () => {
    for (const [method, params, step] of [
      ['vm.fork', { ref: 'dev', count: 3 }, 'save'],
      ['vm.fork', { ref: 'dev', count: 3 }, 'fork'],
      ['snapshot.create', { ref: 'dev', name: 'half' }, 'save'],
      ['snapshot.create', { ref: 'dev', name: 'half' }, 'digest'],
      ['snapshot.restore', { snapshot: 'kept', force: true }, 'verify'],
      ['snapshot.restore', { snapshot: 'kept', force: true }, 'copy_disk'],
    ] as const) {
      for (const delayMs of [0, 200]) {
        const abort = new AbortController();
        const error = await failAt(
          home,
          method,
          params,
          step,
          async () => {
            await sleep(delayMs);
            abort.abort();
          },
          abort.signal,
        );
        if (error === undefined) {
          await home.run(['vm', 'snapshot', 'delete', 'half']);
          for (const { name } of await home.vms()) if (name !== 'dev') await home.ok(['vm', 'delete', name]);
        } else assert.match(error, /cancelled/);
        await assertWhole(home);
      }
    }
  });
});

async function connectTo(home: TestHome) {
  // One that was killed is started by whoever comes next.
  await home.vms();
  const { version, socketPath } = await home.json<{ version: string; socketPath: string }>([
    'daemon',
    'status',
  ]);
  return await connect({ socketPath, version });
}

/** Makes the call, and does `what` when it reaches the step. @returns its error; undefined: it was done before */
async function failAt<M extends Method>(
  home: TestHome,
  method: M,
  params: ParamsOf<M>,
  step: string,
  what: () => Promise<void>,
  signal: AbortSignal = new AbortController().signal,
): Promise<string | undefined> {
  const client = await connectTo(home);
  let done: Promise<void> | undefined;
  const onProgress = (progress: { readonly step: string }): void => {
    if (progress.step === step) done ??= what();
  };
  const outcome = client.call(method, params, { onProgress, signal }).then(
    () => undefined,
    (error: unknown) => (error as Error).message,
  );
  const error = await outcome;
  assert.ok(done !== undefined, `${method} did not come to ${step}: ${error ?? 'it was done'}`);
  await done;
  client.close();
  return error;
}

async function killDaemonAt<M extends Method>(
  home: TestHome,
  method: M,
  params: ParamsOf<M>,
  step: string,
  delayMs: number,
): Promise<void> {
  const error = await failAt(home, method, params, step, async () => {
    await sleep(delayMs);
    await killDaemon(home);
  });
  // It may have been done just before: undone here.
  if (error !== undefined) return;
  await home.run(['vm', 'snapshot', 'delete', 'half']);
  for (const { name } of await home.vms()) if (name !== 'dev') await home.ok(['vm', 'delete', name]);
}

async function killDaemon(home: TestHome): Promise<void> {
  const pid = home.processes().find(({ command }) => command.includes('bangerd'))?.pid;
  assert.ok(pid !== undefined, 'no daemon runs');
  process.kill(pid, 'SIGKILL');
  await settled(() => !isAlive(pid));
}

async function snapshotNames(home: TestHome): Promise<readonly string[]> {
  const { snapshots, broken } = await home.json<VmSnapshotList>(['vm', 'snapshot', 'list']);
  assert.deepEqual(broken, []);
  return snapshots.map(({ name }) => name);
}

/** The source runs and answers; there is nothing but it, its QEMU, and the snapshot that is kept. */
async function assertWhole(home: TestHome): Promise<void> {
  const names = (await home.vms()).map(({ name }) => name);
  assert.deepEqual(names, ['dev']);
  const { id, pid, state, runtime } = await home.show('dev');
  assert.equal(state, 'running');
  assert.equal(await home.guest('dev', 'cat', '/proc/sys/kernel/random/boot_id'), runtime.bootId);
  assert.deepEqual(await snapshotNames(home), ['kept']);
  const daemon = await home.daemonPid();
  const others = () => home.processes().filter((process) => process.pid !== daemon && process.pid !== pid);
  await settled(() => others().length === 0);
  assert.deepEqual(others(), []);
  assert.deepEqual(
    home.leftovers().filter((path) => !path.includes(id.slice(0, 12))),
    [],
  );
  const files = (dir: string) => readdirSync(join(home.dir, 'state', dir)).sort();
  assert.equal(files('vm-snapshots').length, 1, files('vm-snapshots').join(' '));
  const strange = files(join('vms', id)).filter((name) => name.startsWith('.') || name === 'exchange');
  assert.deepEqual(strange, []);
  assert.ok(!readdirSync(join(home.dir, 'run', 'vm', id.slice(0, 12))).includes('held'));
}
