/** Names for VMs that were given none: `brave-otter`. */

import { ADJECTIVES, NOUNS } from './words.ts';

/** Two words collide seldom; after this many tries digits are added, which collide never for long. */
const PLAIN_TRIES = 8;
const DIGITS = 10_000;

/**
 * A name that is not in use. Another creation may still take it first: the store decides.
 * @param random a number in [0, 1)
 */
export function generateName(random: () => number, isTaken: (name: string) => boolean): string {
  for (let tries = 0; tries < PLAIN_TRIES; tries += 1) {
    const name = twoWords(random);
    if (!isTaken(name)) return name;
  }
  let number = Math.floor(random() * DIGITS);
  const words = twoWords(random);
  while (isTaken(`${words}-${number}`)) number += 1;
  return `${words}-${number}`;
}

function twoWords(random: () => number): string {
  const adjective = pick(ADJECTIVES, random);
  const noun = pick(NOUNS, random);
  return `${adjective}-${noun}`;
}

function pick(words: readonly string[], random: () => number): string {
  const word = words[Math.floor(random() * words.length)];
  if (word === undefined) throw new Error('the random number was not in [0, 1)');
  return word;
}
