import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProgress, progressLine } from './progress.ts';

function display(isTTY: boolean, env: Record<string, string> = {}) {
  const writes: string[] = [];
  const stderr = { write: (text: string) => void writes.push(text), isTTY, columns: 30 };
  return { writes, progress: createProgress({ stderr, env }) };
}

test('a line says what, how much and for how long', () => {
  assert.equal(progressLine({ step: 's', text: 'boot' }, 400), 'boot');
  assert.equal(progressLine({ step: 's', text: 'boot' }, 2500), 'boot  2s');
  assert.equal(
    progressLine({ step: 's', text: 'fetch', done: 512 * 1024, total: 2 * 1024 ** 2, unit: 'bytes' }, 61_000),
    'fetch  25% (512 KiB of 2 MiB)  1m1s',
  );
  assert.equal(progressLine({ step: 's', text: 'unpack', done: 3 }, 0), 'unpack  3');
  assert.equal(
    progressLine({ step: 's', text: 'x', done: 9, total: 3, unit: 'items' }, 0),
    'x  100% (9 of 3)',
  );
  assert.equal(progressLine({ step: 's', text: 'evil\u001b[2J\nname' }, 0), 'evil?[2J?name');
});

test('on a terminal: one line, within its width, cleared at the end; the cursor is never hidden', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { writes, progress } = display(true);
  progress.update({ step: 'a', text: 'a very long text that does not fit into the width' });
  t.mock.timers.tick(200);
  progress.update({ step: 'b', text: 'second' });
  t.mock.timers.tick(200);
  progress[Symbol.dispose]();
  const after = writes.length;
  t.mock.timers.tick(10_000);
  assert.equal(writes.length, after, 'nothing is drawn after the end');
  assert.equal(writes.at(-1), '\r\u001b[2K');
  assert.ok(writes.some((text) => text.includes('second')));
  for (const text of writes) {
    assert.ok(text.startsWith('\r\u001b[2K'));
    assert.ok(Array.from(text.slice(5)).length <= 29, JSON.stringify(text));
    assert.doesNotMatch(text, /\n|\?25/);
  }
});

test('on a terminal: quick work draws nothing', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { writes, progress } = display(true);
  progress.update({ step: 'a', text: 'quick' });
  t.mock.timers.tick(100);
  progress[Symbol.dispose]();
  t.mock.timers.tick(10_000);
  assert.deepEqual(writes, []);
});

test('elsewhere: a plain line once for a step that takes long, with its latest text', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  for (const { writes, progress } of [display(false), display(true, { TERM: 'dumb' })]) {
    progress.update({ step: 'quick', text: 'quick' });
    t.mock.timers.tick(1000);
    progress.update({ step: 'fetch', text: 'fetching', done: 1, total: 4, unit: 'items' });
    t.mock.timers.tick(3000);
    progress.update({ step: 'fetch', text: 'fetching', done: 2, total: 4, unit: 'items' });
    t.mock.timers.tick(60_000);
    progress[Symbol.dispose]();
    assert.deepEqual(writes, ['fetching  50% (2 of 4) …\n']);
  }
});

test('a note stays', () => {
  const { writes, progress } = display(false);
  progress.note('spec: 4 vcpu');
  progress[Symbol.dispose]();
  assert.deepEqual(writes, ['spec: 4 vcpu\n']);
});
