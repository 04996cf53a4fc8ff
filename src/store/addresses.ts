/** Guest addresses: the host part of a /24, .2 to .254; .1 is the gateway. */

import { BangerError } from '../core/errors.ts';

const FIRST_HOST = 2;
const LAST_HOST = 254;

/**
 * The first address of `prefix` (three octets, `172.16.0`) that is not in use.
 * @throws {BangerError} `limit_exceeded`: none is left
 */
export function nextGuestIp(prefix: string, inUse: ReadonlySet<string>): string {
  for (let host = FIRST_HOST; host <= LAST_HOST; host += 1) {
    const address = `${prefix}.${host}`;
    if (!inUse.has(address)) return address;
  }
  throw new BangerError(
    'limit_exceeded',
    `no guest addresses available: ${prefix}.${FIRST_HOST} to .${LAST_HOST} are all in use`,
    { hint: 'banger vm prune deletes VMs that do not run' },
  );
}

/** Whether a guest can have this IPv4 address: the others of its /24 are the network's, the gateway's and everybody's. */
export function isGuestIp(address: string): boolean {
  const host = Number(address.split('.')[3]);
  return host >= FIRST_HOST && host <= LAST_HOST;
}
