import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Operations } from './operations.ts';

function request(id: string): Parameters<Operations['run']>[0] {
  const { signal } = new AbortController();
  return { operationId: id, method: 'vm.create', signal, progress: () => undefined };
}

test('an operation is listed with its subject and progress while it runs, and not afterwards', async () => {
  const operations = new Operations(() => '2026-01-01T00:00:00.000Z');
  await operations.run(request('a1'), async (operation) => {
    operation.about('dev');
    operation.progress({ step: 'boot', text: 'booting' });
    assert.deepEqual(operations.list(), [
      {
        id: 'a1',
        method: 'vm.create',
        startedAt: '2026-01-01T00:00:00.000Z',
        subject: 'dev',
        progress: { step: 'boot', text: 'booting' },
      },
    ]);
  });
  assert.deepEqual(operations.list(), []);
});

test('cancelling aborts just that operation; an unknown one is an error', async () => {
  const operations = new Operations(() => '');
  const signals: AbortSignal[] = [];
  const hold = Promise.withResolvers<void>();
  const runs = ['a', 'b'].map((id) =>
    operations.run(request(id), async ({ signal }) => {
      signals.push(signal);
      await hold.promise;
    }),
  );
  operations.cancel('b');
  assert.deepEqual(
    signals.map((signal) => signal.aborted),
    [false, true],
  );
  assert.throws(() => operations.cancel('zz'), { code: 'not_found' });
  operations.cancelAll();
  assert.ok(signals.every((signal) => signal.aborted));
  hold.resolve();
  await Promise.all(runs);
});
