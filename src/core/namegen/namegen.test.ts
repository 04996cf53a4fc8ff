import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assertVmName } from '../names.ts';
import { randomName } from './namegen.ts';
import { ADJECTIVES, NOUNS } from './words.ts';

test('the lists are long enough, without doubles, and every word is a DNS label of its own', () => {
  for (const words of [ADJECTIVES, NOUNS]) {
    assert.ok(words.length >= 60, `${words.length} words`);
    assert.equal(new Set(words).size, words.length);
    for (const word of words) assert.match(word, /^[a-z]{2,10}$/);
  }
});

test('every name is a VM name', () => {
  const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
  fc.assert(
    fc.property(fraction, fraction, (first, second) => {
      const numbers = [first, second];
      const name = randomName(() => numbers.shift() ?? 0);
      assertVmName(name);
      assert.match(name, /^[a-z]+-[a-z]+$/);
    }),
  );
});

test('the ends of the range reach the ends of the lists', () => {
  assert.equal(
    randomName(() => 0),
    `${ADJECTIVES[0]}-${NOUNS[0]}`,
  );
  assert.equal(
    randomName(() => 1 - 2 ** -53),
    `${ADJECTIVES.at(-1)}-${NOUNS.at(-1)}`,
  );
  assert.throws(() => randomName(() => 1), /not in \[0, 1\)/);
});
