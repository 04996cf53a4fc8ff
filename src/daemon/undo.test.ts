import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BangerError } from '../core/errors.ts';
import { withUndo } from './undo.ts';

test('what succeeds is not undone', async () => {
  const done: string[] = [];
  const result = await withUndo(async (undo) =>
    undo.step(
      'a',
      async () => 5,
      async () => {
        done.push('undone');
      },
    ),
  );
  assert.equal(result, 5);
  assert.deepEqual(done, []);
});

test('a failure undoes every step begun, the failing one first, and passes the error on as it was', async () => {
  const done: string[] = [];
  const failure = new BangerError('no_space', 'disk full', { hint: 'make room' });
  const run = withUndo(async (undo) => {
    await undo.step(
      'a',
      async () => undefined,
      async () => void done.push('a'),
    );
    await undo.step(
      'b',
      async () => {
        throw failure;
      },
      async () => void done.push('b'),
    );
    await undo.step(
      'c',
      async () => undefined,
      async () => void done.push('c'),
    );
  });
  await assert.rejects(run, (error) => error === failure);
  assert.deepEqual(done, ['b', 'a']);
});

test('an undo that fails does not stop the others; the error keeps its code and says both', async () => {
  const done: string[] = [];
  const run = withUndo(async (undo) => {
    await undo.step(
      'a',
      async () => undefined,
      async () => void done.push('a'),
    );
    await undo.step(
      'b',
      async () => undefined,
      async () => {
        throw new Error('stuck');
      },
    );
    throw new BangerError('no_space', 'disk full', { hint: 'make room' });
  });
  await assert.rejects(run, {
    code: 'no_space',
    hint: 'make room',
    message: 'disk full; and undoing it failed: b: stuck',
  });
  assert.deepEqual(done, ['a']);
});
