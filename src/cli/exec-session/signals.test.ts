import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { constants } from 'node:os';
import { test } from 'node:test';
import { handleSignals } from './signals.ts';

const NAMES = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGTERM'] as const;

function handle(raw: boolean) {
  const source = new EventEmitter();
  const seen: string[] = [];
  const stop = handleSignals({
    source,
    raw,
    forward: (number) => seen.push(`forward ${number}`),
    giveUp: (number) => seen.push(`give up ${number}`),
  });
  return { source, seen, stop };
}

for (const name of NAMES) {
  test(`${name} is forwarded under the number the system has for it`, () => {
    const { source, seen } = handle(false);
    source.emit(name);
    assert.deepEqual(seen, [`forward ${constants.signals[name]}`]);
  });
}

test('a repeated signal gives up only when it asks for the end, and only of its own kind', () => {
  const { source, seen } = handle(false);
  for (const name of ['SIGUSR1', 'SIGUSR1', 'SIGINT', 'SIGTERM', 'SIGINT'] as const) source.emit(name);
  assert.deepEqual(seen, ['forward 10', 'forward 10', 'forward 2', 'forward 15', 'give up 2']);
});

test('a signal repeated after a while is forwarded again', (context) => {
  let nowMs = 0;
  context.mock.method(performance, 'now', () => nowMs);
  const { source, seen } = handle(false);
  source.emit('SIGINT');
  nowMs = 3000;
  source.emit('SIGINT');
  assert.deepEqual(seen, ['forward 2', 'forward 2']);
});

test('in raw mode SIGHUP and SIGTERM mean the session, the others the program', () => {
  const { source, seen } = handle(true);
  for (const name of NAMES) source.emit(name);
  assert.deepEqual(seen, ['give up 1', 'forward 2', 'forward 3', 'forward 10', 'forward 12', 'give up 15']);
});

test('the signals are given back', () => {
  const { source, stop } = handle(false);
  stop();
  assert.deepEqual(source.eventNames(), []);
});
