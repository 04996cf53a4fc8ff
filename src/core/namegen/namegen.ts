/** Names for VMs that were given none: `brave-otter`. */

import { ADJECTIVES, NOUNS } from './words.ts';

/**
 * Two words, a hyphen between. Whether it is taken is the store's to say: the caller tries again then.
 * @param random a number in [0, 1)
 */
export function randomName(random: () => number): string {
  return `${pick(ADJECTIVES, random)}-${pick(NOUNS, random)}`;
}

function pick(words: readonly string[], random: () => number): string {
  const word = words[Math.floor(random() * words.length)];
  if (word === undefined) throw new Error('the random number was not in [0, 1)');
  return word;
}
