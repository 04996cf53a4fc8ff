import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SingleFlight } from './single-flight.ts';

function caller(signal: AbortSignal = new AbortController().signal): {
  signal: AbortSignal;
  seen: string[];
  onProgress: (text: string) => void;
} {
  const seen: string[] = [];
  return { signal, seen, onProgress: (text) => seen.push(text) };
}

test('callers of one key share one run, its progress and its outcome', async () => {
  const flights = new SingleFlight<number, string>();
  const gate = Promise.withResolvers<void>();
  let runs = 0;
  const work = async (_signal: AbortSignal, onProgress: (text: string) => void): Promise<number> => {
    runs++;
    await gate.promise;
    onProgress('half');
    return 7;
  };
  const one = caller();
  const two = caller();
  const both = [flights.join('k', one, work), flights.join('k', two, work)];
  gate.resolve();
  assert.deepEqual(await Promise.all(both), [7, 7]);
  assert.equal(runs, 1);
  assert.deepEqual([one.seen, two.seen], [['half'], ['half']]);
  assert.equal(await flights.join('k', caller(), async () => 8), 8, 'a finished run is not reused');
});

test('one caller leaving does not end the run; the last one leaving does, and waits for its cleanup', async () => {
  const flights = new SingleFlight<number, string>();
  const cleaned = Promise.withResolvers<void>();
  let aborted = false;
  let cleanedUp = false;
  const work = (signal: AbortSignal): Promise<number> =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        aborted = true;
        void cleaned.promise.then(() => {
          cleanedUp = true;
          reject(new Error('aborted'));
        });
      });
    });
  const first = new AbortController();
  const last = new AbortController();
  const one = flights.join('k', caller(first.signal), work);
  const two = flights.join('k', caller(last.signal), work);
  first.abort();
  await assert.rejects(one, { code: 'cancelled' });
  assert.equal(aborted, false);
  last.abort();
  setImmediate(() => cleaned.resolve());
  await assert.rejects(two, { code: 'cancelled' });
  assert.ok(aborted && cleanedUp);
});

test('a failure reaches every caller, and the next one tries again', async () => {
  const flights = new SingleFlight<number, string>();
  const fail = async (): Promise<number> => {
    throw new Error('no luck');
  };
  const outcomes = await Promise.allSettled([
    flights.join('k', caller(), fail),
    flights.join('k', caller(), fail),
  ]);
  assert.ok(outcomes.every((outcome) => outcome.status === 'rejected'));
  assert.equal(await flights.join('k', caller(), async () => 1), 1);
});
