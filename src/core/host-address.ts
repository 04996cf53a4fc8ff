/**
 * A VM's own address on the host: one of 127.0.0.0/8, all of which leads to this host without being set up (Linux puts
 * the whole network on the loopback interface). Two VMs never share one: 127.X.Y is the instance's, the last octet the guest address's.
 */

import { isIpv4 } from './ip-address.ts';

/** No guest has it: they begin at 2. What `banger doctor` asks for stands there. */
const INSTANCE_HOST = 1;

/**
 * The three octets that an instance's addresses begin with, out of 65,024. Never 127.0 (127.0.0.1, Debian's 127.0.1.1, the
 * stubs of systemd-resolved) nor 127.255, whose last address is a broadcast.
 * @param tag 32 bits that stand for the instance
 */
export function hostPrefixOf(tag: number): string {
  return `127.${1 + (tag % 254)}.${Math.floor(tag / 254) % 256}`;
}

/** Null: the VM has no address, its row is damaged. */
export function hostAddressOf(prefix: string, guestIp: string): string | null {
  if (!isIpv4(guestIp)) return null;
  const last = Number(guestIp.split('.')[3]);
  return last > INSTANCE_HOST && last < 255 ? `${prefix}.${last}` : null;
}

/** Where nothing listens: it tells whose names a resolver knows. */
export function instanceAddressOf(prefix: string): string {
  return `${prefix}.${INSTANCE_HOST}`;
}

/** `127.107.251.x` as a zone: `251.107.127.in-addr.arpa` (RFC 1035, 3.5). */
export function reverseZoneOf(prefix: string): string {
  return `${prefix.split('.').toReversed().join('.')}.in-addr.arpa`;
}
