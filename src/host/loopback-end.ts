/** An address of the loopback interface with a port, as settings write it. */

import { isIpv4 } from '../core/ip-address.ts';
import { BangerError } from '../core/errors.ts';

export interface LoopbackEnd {
  /** 127.x.y.z, or ::1. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/**
 * `127.0.0.1:42069`, `[::1]:42069`. Other addresses are refused: what listens there answers everybody who can reach this host.
 * @throws {BangerError} `bad_request`
 */
export function parseLoopbackEnd(text: string): LoopbackEnd {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3] ?? 0);
  const isLoopback = match?.[1] === undefined ? isIpv4(host) && host.startsWith('127.') : host === '::1';
  if (isLoopback && port >= 1 && port <= 65_535) return { host, port };
  throw new BangerError('bad_request', 'must be an address of the loopback interface with a port', {
    hint: 'like "127.0.0.1:42069" or "[::1]:42069"',
  });
}
