/** Identifiers made of random bytes. */

import { randomBytes } from 'node:crypto';

/** A new id of a VM, an image or an operation: 32 lower-case hex digits. */
export function newId(): string {
  return randomBytes(16).toString('hex');
}
