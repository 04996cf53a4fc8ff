import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { DEFAULT_CONFIG } from '../host/config.ts';
import { NO_LOG } from '../host/log.ts';
import { startIdleRounds } from './idle-rounds.ts';

const config = { ...DEFAULT_CONFIG, idlePauseAfterMs: 4000, idleSaveAfterMs: 0 };

function ticks(context: TestContext): (ms: number) => void {
  context.mock.timers.enable({ apis: ['setInterval'] });
  return (ms) => context.mock.timers.tick(ms);
}

test('one round at a time; the end breaks it off and waits for it', async (context) => {
  const tick = ticks(context);
  let rounds = 0;
  let ended = 0;
  const round = async (stop: AbortSignal): Promise<void> => {
    rounds += 1;
    await new Promise((resolve) => stop.addEventListener('abort', resolve));
    ended += 1;
  };
  const stop = startIdleRounds({ round }, config, NO_LOG);
  tick(999);
  assert.equal(rounds, 0);
  tick(10_000);
  assert.deepEqual([rounds, ended], [1, 0]);
  await stop();
  assert.equal(ended, 1);
  tick(10_000);
  assert.equal(rounds, 1);
});

test('a round that fails is followed by another', async (context) => {
  const tick = ticks(context);
  let rounds = 0;
  const round = async (): Promise<void> => {
    rounds += 1;
    throw new Error('it fails');
  };
  const stop = startIdleRounds({ round }, config, NO_LOG);
  tick(1000);
  await new Promise((resolve) => setImmediate(resolve));
  tick(1000);
  assert.equal(rounds, 2);
  await stop();
});

test('there are none when nothing is to be put to sleep', async (context) => {
  const tick = ticks(context);
  const round = async (): Promise<void> => assert.fail('a round');
  const stop = startIdleRounds({ round }, { ...config, idlePauseAfterMs: 0 }, NO_LOG);
  tick(100_000);
  await stop();
});
