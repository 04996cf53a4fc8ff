/** What QEMU's migration stream is made of: numbers, big-endian, and names with their length in a byte before them. */

import { BangerError } from '../../core/errors.ts';

export const PAGE_BYTES = 4096;

/** What comes has not all come. */
export const INCOMPLETE = -1;

export function flagsAt(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at + 4) % PAGE_BYTES;
}

/** Beyond 2^53 it is not exact, and larger than every block. */
export function addressAt(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4) - flagsAt(bytes, at);
}

/** Of a name with its length before it. */
export function endOfName(bytes: Buffer, at: number): number {
  const length = bytes[at];
  if (length === undefined) return INCOMPLETE;
  const end = at + 1 + length;
  return bytes.length < end ? INCOMPLETE : end;
}

export function nameIn(bytes: Buffer, at: number, end: number): string {
  return bytes.toString('latin1', at + 1, end);
}

export function expect(what: string, value: number | string | undefined, known: number | string): void {
  if (value !== known) throw unknown(what, value);
}

export function unknown(what: string, value: number | string | undefined): BangerError {
  return new BangerError(
    'unsupported',
    `the state that QEMU sent is of an unknown kind: ${what} ${JSON.stringify(value)}`,
    {
      hint: 'this version of QEMU cannot be used for it',
    },
  );
}

export function broken(why: string): BangerError {
  return new BangerError('vmm_failed', `the state that QEMU sent is broken: ${why}`);
}
