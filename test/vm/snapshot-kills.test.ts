/**
 * Whatever dies while a VM is copied or put back, at whatever step: nothing half is left, and rows say what is true. Each step is
 * met in every run, and each of the moments in it that differ; where forks and snapshots do the same, they take turns. With
 * `THOROUGH=1` both have all moments.
 */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Method, ParamsOf } from '../../src/api/contract.ts';
import type { VmSnapshotList } from '../../src/api/results/snapshot.ts';
import { connect, type RpcClient } from '../../src/rpc/client.ts';
import { snapshot, source } from '../helpers/copies.ts';
import { isAlive, settled, TestHome } from '../helpers/test-home.ts';
import { atMoments } from '../helpers/thorough.ts';

/** The two ways to copy a VM: they save it by the same steps. */
const FORK = ['vm.fork', { ref: 'dev', count: 2 }] as const;
const CREATE = ['snapshot.create', { ref: 'dev', name: 'half' }] as const;
const RESTORE = ['snapshot.restore', { snapshot: 'kept', force: true }] as const;
/** The same for each daemon of the home. */
let endpoint: { readonly version: string; readonly socketPath: string } | undefined;

describe('kills while a VM is copied or put back', () => {
  let home: TestHome;
  before(async () => {
    home = TestHome.warm();
    await source(home);
    await home.guest('dev', 'sh', '-c', 'echo old > /dev/shm/memory; echo old > /root/disk; sync');
    await snapshot(home, 'dev', 'kept');
    await home.ok(['vm', 'stop', 'dev']);
    await home.ok(['vm', 'set', 'dev', '--memory', '576M']);
    await home.ok(['vm', 'start', 'dev']);
    await home.guest('dev', 'sh', '-c', 'echo new > /dev/shm/memory; echo new > /root/disk; sync');
    await snapshot(home, 'dev', 'later');
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
  });

  for (const [[method, params], delayMs] of atMoments(
    [
      [FORK, 0],
      [CREATE, 30],
      [FORK, 100],
      [CREATE, 250],
      [FORK, 450],
      [CREATE, 700],
    ],
    [
      [CREATE, 0],
      [FORK, 30],
      [CREATE, 100],
      [FORK, 250],
      [CREATE, 450],
      [FORK, 700],
    ],
  )) {
    test(`the daemon, ${delayMs} ms into the saving of ${method}: the source runs`, async () => {
      await killDaemonAt(home, method, params, 'save', delayMs);
      await assertWhole(home);
    });
  }

  for (const [step, delayMs] of atMoments(
    [
      ['digest', 0],
      ['publish', 0],
    ],
    [
      ['digest', 60],
      ['publish', 60],
    ],
  )) {
    test(`the daemon, ${delayMs} ms into ${step} of a snapshot`, async () => {
      await killDaemonAt(home, ...CREATE, step, delayMs);
      await assertWhole(home);
    });
  }

  for (const delayMs of atMoments([0, 400], [150, 900])) {
    test(`the daemon, ${delayMs} ms into starting copies`, async () => {
      await killDaemonAt(home, 'vm.fork', { ref: 'dev', count: 3 }, 'fork', delayMs);
      await assertWhole(home);
    });
  }

  for (const delayMs of atMoments([0, 5], [2, 20])) {
    test(`the daemon, ${delayMs} ms into a deletion: there, and whole, or gone`, async () => {
      await snapshot(home, 'dev', 'doomed');
      const client = await connectTo(home);
      const call = client.call('snapshot.delete', { snapshot: 'doomed' }).catch(() => undefined);
      await sleep(delayMs);
      await killDaemon(home);
      await call;
      // Whoever comes next starts another daemon.
      if ((await snapshotNames(home)).includes('doomed'))
        await home.ok(['vm', 'snapshot', 'delete', 'doomed']);
      await assertWhole(home);
    });
  }

  for (const [step, delayMs] of atMoments(
    [
      ['verify', 0],
      ['copy_disk', 0],
      ['replace', 0],
      ['replace', 10],
      ['replace', 80],
      ['restore', 0],
      ['configure', 0],
    ],
    [
      ['replace', 3],
      ['replace', 30],
      ['restore', 100],
      ['configure', 60],
    ],
  )) {
    test(`the daemon, ${delayMs} ms into ${step} of a restore: as it was, or as it is in the snapshot`, async () => {
      await home.ok(['vm', 'snapshot', 'restore', 'later', '--force']);
      const params = { snapshot: 'kept', force: true };
      const steps = await killDaemonAt(home, 'snapshot.restore', params, step, delayMs);
      // The daemon that came after it ends what that one was ending.
      await settled(async () => (await home.show('dev')).state !== 'stopping');
      const { state, spec } = await home.show('dev');
      if (state !== 'running') {
        assert.equal(state, 'stopped');
        await home.ok(['vm', 'start', 'dev']);
      }
      const disk = await home.guest('dev', 'cat', '/root/disk');
      assert.deepEqual([disk, spec.memoryMib], disk === 'new' ? ['new', 576] : ['old', 512]);
      if (!steps.has('replace')) assert.equal(disk, 'new');
      if (step === 'restore' || step === 'configure') assert.equal(disk, 'old');
      await assertWhole(home);
    });
  }

  for (const [[method, params], delayMs] of atMoments(
    [
      [FORK, 0],
      [CREATE, 100],
      [FORK, 300],
    ],
    [
      [CREATE, 0],
      [FORK, 100],
      [CREATE, 300],
    ],
  )) {
    test(`QEMU, ${delayMs} ms into the saving of ${method}: it fails, the VM is in error`, async () => {
      const { pid } = await home.show('dev');
      const error = await failAt(home, method, params, 'save', async () => {
        await sleep(delayMs);
        process.kill(pid ?? assert.fail('it has no pid'), 'SIGKILL');
      });
      if (error === undefined) await undo(home);
      else assert.match(error, /QEMU|VMM/);
      await settled(async () => (await home.show('dev')).state === 'error');
      assert.equal((await home.show('dev')).state, 'error');
      await home.ok(['vm', 'snapshot', 'restore', 'kept']);
      await assertWhole(home);
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

  for (const [[method, params], step, delayMs] of atMoments(
    [
      [FORK, 'save', 0],
      [CREATE, 'save', 200],
      [FORK, 'fork', 0],
      [FORK, 'fork', 200],
      [CREATE, 'digest', 0],
      [RESTORE, 'verify', 0],
      [RESTORE, 'copy_disk', 0],
    ],
    [
      [FORK, 'save', 200],
      [CREATE, 'save', 0],
      [CREATE, 'digest', 200],
      [RESTORE, 'verify', 200],
      [RESTORE, 'copy_disk', 200],
    ],
  )) {
    test(`a cancellation, ${delayMs} ms into ${step} of ${method}: the source runs, and nothing else`, async () => {
      const abort = new AbortController();
      const cancel = async (): Promise<void> => {
        await sleep(delayMs);
        abort.abort();
      };
      const error = await failAt(home, method, params, step, cancel, abort.signal);
      if (error === undefined) await undo(home);
      else assert.match(error, /cancelled/);
      await assertWhole(home);
    });
  }
});

async function connectTo(home: TestHome): Promise<RpcClient> {
  // One that was killed is started by whoever comes next.
  await home.vms();
  endpoint ??= await home.json<{ version: string; socketPath: string }>(['daemon', 'status']);
  return await connect(endpoint);
}

/** Makes the call, and does `what` when it reaches the step. @returns its error; undefined: it was done before */
async function failAt<M extends Method>(
  home: TestHome,
  method: M,
  params: ParamsOf<M>,
  step: string,
  what: () => Promise<void>,
  signal: AbortSignal = new AbortController().signal,
  steps: Set<string> = new Set(),
): Promise<string | undefined> {
  const client = await connectTo(home);
  let done: Promise<void> | undefined;
  const onProgress = (progress: { readonly step: string }): void => {
    steps.add(progress.step);
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

/** @returns the steps that it had begun by then */
async function killDaemonAt<M extends Method>(
  home: TestHome,
  method: M,
  params: ParamsOf<M>,
  step: string,
  delayMs: number,
): Promise<ReadonlySet<string>> {
  const steps = new Set<string>();
  const kill = async (): Promise<void> => {
    await sleep(delayMs);
    await killDaemon(home);
  };
  const error = await failAt(home, method, params, step, kill, undefined, steps);
  if (error === undefined) await undo(home);
  return steps;
}

/** What was done just before it was to fail. */
async function undo(home: TestHome): Promise<void> {
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

/** The source runs and answers; there is nothing but it, its QEMU, and the snapshots that are kept. */
async function assertWhole(home: TestHome): Promise<void> {
  // Through one connection: a program of its own for each question takes longer than all answers.
  const client = await connectTo(home);
  const names = (await client.call('vm.list', {})).map(({ name }) => name);
  assert.deepEqual(names, ['dev']);
  const { id, pid, state, runtime } = await client.call('vm.show', { ref: 'dev' });
  assert.equal(state, 'running');
  const { snapshots, broken } = await client.call('snapshot.list', {});
  const kept = snapshots.map(({ name }) => name).sort();
  assert.deepEqual([kept, broken], [['kept', 'later'], []]);
  const { pid: daemon } = await client.call('daemon.status', {});
  client.close();
  assert.equal(await home.guest('dev', 'cat', '/proc/sys/kernel/random/boot_id'), runtime.bootId);
  const others = () => home.processes().filter((process) => process.pid !== daemon && process.pid !== pid);
  await settled(() => others().length === 0);
  assert.deepEqual(others(), []);
  assert.deepEqual(
    home.leftovers().filter((path) => !path.includes(id.slice(0, 12))),
    [],
  );
  const files = (dir: string) => readdirSync(join(home.dir, 'state', dir)).sort();
  assert.equal(files('vm-snapshots').length, 2, files('vm-snapshots').join(' '));
  const strange = files(join('vms', id)).filter((name) => name.startsWith('.') || name === 'exchange');
  assert.deepEqual(strange, []);
  assert.ok(!readdirSync(join(home.dir, 'run', 'vm', id.slice(0, 12))).includes('held'));
}
