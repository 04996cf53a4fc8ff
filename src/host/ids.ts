/** Identifiers made of random bytes. */

import { randomBytes, randomInt } from 'node:crypto';

/** A new id of a VM, an image or an operation: 32 lower-case hex digits. */
export function newId(): string {
  return randomBytes(16).toString('hex');
}

/** A random number in [0, 1) for core's pure functions that take one. */
export function randomFraction(): number {
  return randomInt(2 ** 47) / 2 ** 47;
}
