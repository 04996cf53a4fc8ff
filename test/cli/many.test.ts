import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmView } from '../../src/api/results/vm.ts';
import { BangerError } from '../../src/core/errors.ts';
import { type Answers, fakeCli, fakeDetail, fakeVm } from './fake-cli.ts';

const known = new Map([
  ['a', 'a'],
  ['b', 'b'],
  ['c', 'c'],
  [fakeVm('a').id, 'a'],
  [fakeVm('b').id, 'b'],
  [fakeVm('c').id, 'c'],
]);

function named(ref: string): string {
  const name = known.get(ref);
  if (name === undefined) throw new BangerError('not_found', `there is no VM "${ref}"`);
  return name;
}

const show: Answers = { 'vm.show': ({ ref }) => fakeDetail(named(ref)) };

test('several at once: started together, reported in the order given', async () => {
  const running: string[] = [];
  let release = () => {};
  const all = new Promise<void>((resolve) => {
    release = resolve;
  });
  const result = await fakeCli(['vm', 'stop', 'c', 'a', 'b'], {
    answers: {
      ...show,
      'vm.stop': async ({ ref }): Promise<VmView> => {
        running.push(named(ref));
        if (running.length === 3) release();
        await all;
        return fakeVm(named(ref));
      },
    },
  });
  assert.equal(result.status, 0);
  assert.equal(result.stdout, 'c: stopped\na: stopped\nb: stopped\n');
  assert.deepEqual(running.toSorted(), ['a', 'b', 'c']);
});

test('the same VM given twice, by name and by id, is acted on once', async () => {
  const acted: string[] = [];
  const answers: Answers = {
    ...show,
    'vm.delete': ({ ref }) => {
      acted.push(ref);
      return fakeVm(named(ref));
    },
  };
  const result = await fakeCli(['vm', 'delete', 'a', 'b', 'a', fakeVm('a').id], { answers });
  assert.equal(result.stdout, 'a: deleted\nb: deleted\n');
  assert.deepEqual(acted.toSorted(), [fakeVm('a').id, fakeVm('b').id].toSorted());
  acted.length = 0;
  await fakeCli(['vm', 'delete', 'a', 'a'], { answers });
  assert.deepEqual(acted, ['a']);
});

test('a bad reference does not stop the good ones; status 1', async () => {
  const result = await fakeCli(['vm', 'start', 'a', 'ghost', 'b'], {
    answers: { ...show, 'vm.start': ({ ref }) => fakeVm(named(ref)) },
  });
  assert.equal(result.status, 1);
  assert.equal(result.stdout, 'a: started\nb: started\n');
  assert.equal(result.stderr, 'banger: there is no VM "ghost"\n');
});

test('with --json one entry per VM, in the order given, errors among them', async () => {
  const result = await fakeCli(['vm', 'start', 'ghost', 'a', '--json'], {
    answers: { ...show, 'vm.start': ({ ref }) => fakeVm(named(ref)) },
  });
  assert.equal(result.status, 1);
  assert.deepEqual(JSON.parse(result.stdout), [
    { ref: 'ghost', ok: false, error: { code: 'not_found', message: 'there is no VM "ghost"' } },
    { ref: 'a', ok: true, result: fakeVm('a') },
  ]);
  assert.equal(JSON.parse(result.stderr).error.code, 'not_found');
});

test('Ctrl-C cancels all of them; status 130', async () => {
  let interrupt = () => {};
  const result = await fakeCli(['vm', 'start', 'a', 'b'], {
    onInterruptible: (trigger) => {
      interrupt = trigger;
    },
    answers: {
      ...show,
      'vm.start': (_params, { signal }) =>
        new Promise((_resolve, reject) => {
          const give = () => reject(new BangerError('cancelled', 'cancelled'));
          if (signal?.aborted) give();
          signal?.addEventListener('abort', give);
          interrupt();
        }),
    },
  });
  assert.equal(result.status, 130);
  assert.equal(result.heldInterruptions, 0);
});

test('health names the VMs as they were given', async () => {
  const health = {
    reachable: true as const,
    roundTripMs: 0.42,
    uptimeMs: 61_000,
    bootId: 'boot',
    memoryTotalKib: 2048 * 1024,
    memoryAvailableKib: 1024 * 1024,
    load1: 0.5,
    processes: 12,
    diskTotalBytes: 8 * 1024 ** 3,
    diskFreeBytes: 4 * 1024 ** 3,
    init: 'agent',
  };
  const result = await fakeCli(['vm', 'ping', 'a', 'ghost', 'b'], {
    answers: { ...show, 'vm.health': () => health },
  });
  assert.equal(result.status, 1);
  assert.equal(
    result.stdout,
    'VM  BOOT ID  ROUND TRIP  UPTIME  MEMORY FREE     DISK FREE       LOAD  PROCESSES  INIT\n' +
      'a   boot     0.4 ms      1m1s    1 GiB of 2 GiB  4 GiB of 8 GiB  0.50  12         agent\n' +
      'b   boot     0.4 ms      1m1s    1 GiB of 2 GiB  4 GiB of 8 GiB  0.50  12         agent\n',
  );
});
