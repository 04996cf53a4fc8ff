/** `vm snapshot export -` and `import -`: a request, and a stream beside it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmSnapshotExported, VmSnapshotView } from '../../src/api/results/snapshot.ts';
import { BangerError } from '../../src/core/errors.ts';
import { fakeCli } from './fake-cli.ts';

const EXPORT = ['vm', 'snapshot', 'export', 's', '-'];
const IMPORT = ['vm', 'snapshot', 'import', '-'];
const ticket = 'ab'.repeat(32);
const exported = { snapshot: { name: 's' }, path: null, bytes: 1, dataBytes: 1 } as VmSnapshotExported;
const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((_, reject) => {
    const onAbort = (): void => reject(new BangerError('cancelled', 'cancelled'));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort);
  });

test('the request names the ticket that the bytes travel with', async () => {
  const carried: string[] = [];
  const out = await fakeCli(EXPORT, {
    answers: { 'snapshot.export': () => exported },
    copyStream: async (one) => void carried.push(one.ticket),
  });
  assert.deepEqual([out.status, out.stdout, carried], [0, '', [ticket]]);
  assert.deepEqual(out.calls.at(-1), {
    method: 'snapshot.export',
    params: { snapshot: 's', stream: ticket },
  });
  const back = await fakeCli([...IMPORT, '--trust'], {
    answers: { 'snapshot.import': () => ({ name: 'theirs' }) as VmSnapshotView },
    feedStream: async (one) => void carried.push(one.ticket),
  });
  assert.deepEqual([back.status, back.stdout, carried], [0, 'theirs\n', [ticket, ticket]]);
  const params = { trust: true, nat: false, stream: ticket };
  assert.deepEqual(back.calls.at(-1), { method: 'snapshot.import', params });
});

test('a refusal ends the stream, and is what is told', async () => {
  const refused = await fakeCli(IMPORT, {
    answers: {
      'snapshot.import': () => {
        throw new BangerError('verify_failed', 'it is damaged', { hint: 'another' });
      },
    },
    feedStream: (_ticket, signal) => untilAborted(signal),
  });
  assert.deepEqual([refused.status, refused.stderr], [1, 'banger: it is damaged\nanother\n']);
  assert.equal(refused.heldInterruptions, 0);
});

test('when stdout cannot be written, that is the reason', async () => {
  const { status, stderr } = await fakeCli(EXPORT, {
    answers: {
      'snapshot.export': () => {
        throw new BangerError('cancelled', 'the other end of the stream has gone');
      },
    },
    copyStream: async () => {
      throw new BangerError('io_error', 'cannot write to stdout: ENOSPC');
    },
  });
  assert.deepEqual([status, stderr], [1, 'banger: cannot write to stdout: ENOSPC\n']);
});

test('Ctrl-C cancels the request and the stream', async () => {
  const cancelled: boolean[] = [];
  const { status } = await fakeCli(EXPORT, {
    onInterruptible: (interrupt) => setImmediate(interrupt),
    answers: {
      'snapshot.export': async (_params, { signal }) => {
        assert.ok(signal);
        await untilAborted(signal);
        return exported;
      },
    },
    copyStream: (_ticket, signal) => untilAborted(signal).finally(() => cancelled.push(signal.aborted)),
  });
  assert.deepEqual([status, cancelled], [130, [true]]);
});

test('a terminal is no place for such a file, and JSON has none beside it', async () => {
  for (const [argv, options] of [
    [EXPORT, { stdoutIsTTY: true }],
    [[...EXPORT, '--json'], {}],
    [IMPORT, { stdinIsTTY: true }],
    [['vm', 'snapshot', 'export', 's'], {}],
  ] as const) {
    const { status, calls } = await fakeCli(argv, options);
    assert.deepEqual([status, calls], [2, []], argv.join(' '));
  }
});
