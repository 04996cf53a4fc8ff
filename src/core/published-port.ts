/** Ports of a VM that the host offers: how they are written, and what is allowed. */

import { BangerError } from './errors.ts';
import { isIpv4, isIpv6 } from './ip-address.ts';
import type { BoundPort, PublishedPort, VmRecord } from './model/vm.ts';

export const MAX_PUBLISHED_PORTS = 64;
/** Ports of one VM that appear on its own address by themselves. */
export const MAX_FORWARDED_PORTS = 256;
export const DEFAULT_HOST_ADDRESS = '127.0.0.1';
const MAX_PORT = 65535;
const FORMS =
  'write [ADDRESS:]HOSTPORT:GUESTPORT or PORT: "8080:80", "[::1]:8080:80", "0:80" (any free port), "8080"';

/**
 * `8080:80`, `0.0.0.0:8080:80`, `[::1]:8080:80`, or `8080` for the same number on both sides; host port 0 is any free one.
 * @throws {BangerError} `bad_request`
 */
export function parsePublishedPort(text: string): PublishedPort {
  const match = /^(?:(?:(?:\[([^\]]*)\]|([^:[\]]*)):)?(\d{1,5}):)?(\d{1,5})$/.exec(text);
  if (match === null) {
    throw new BangerError('bad_request', `${JSON.stringify(text.slice(0, 100))} is no port to publish`, {
      hint: FORMS,
    });
  }
  const [, bracketed, plain, hostPort, guestPort] = match;
  // Brackets are for IPv6 only, and IPv6 only stands in brackets: its colons would be read as the ports'.
  if (bracketed !== undefined && !isIpv6(bracketed)) throw notAnAddress(bracketed);
  const port: PublishedPort = {
    hostAddress: bracketed?.toLowerCase() ?? plain ?? DEFAULT_HOST_ADDRESS,
    hostPort: Number(hostPort ?? guestPort),
    guestPort: Number(guestPort),
  };
  return checkPublishedPort(port);
}

/** As `parsePublishedPort` reads it. */
export function formatPublishedPort(port: PublishedPort): string {
  return `${formatHostEnd(port)}:${port.guestPort}`;
}

/** The host's end: `127.0.0.1:8080`, `[::1]:8080`. */
export function formatHostEnd({ hostAddress, hostPort }: Omit<PublishedPort, 'guestPort'>): string {
  return `${hostAddress.includes(':') ? `[${hostAddress}]` : hostAddress}:${hostPort}`;
}

/** A VM's ports as they are, where it has been started, and else as they were asked for. */
export function publishedPorts(vm: Pick<VmRecord, 'spec' | 'runtime'>): readonly BoundPort[] {
  return vm.spec.publish.map((port, index) => vm.runtime.published?.[index] ?? port);
}

/** Whether a connection to a published port reaches a server in the guest that listens on `address`: the agent tries loopback. */
export function isReachedByLoopback(address: string): boolean {
  return ['0.0.0.0', '127.0.0.1', '::', '::1'].includes(address);
}

/**
 * For a list that comes from elsewhere.
 * @throws {BangerError} `bad_request`, `limit_exceeded`
 */
export function checkPublishedPorts(ports: readonly PublishedPort[]): readonly PublishedPort[] {
  if (ports.length > MAX_PUBLISHED_PORTS) {
    throw new BangerError(
      'limit_exceeded',
      `a VM can publish ${MAX_PUBLISHED_PORTS} ports, not ${ports.length}`,
    );
  }
  const seen = new Set<string>();
  for (const port of ports) {
    checkPublishedPort(port);
    const end = formatHostEnd(port);
    if (port.hostPort !== 0 && seen.has(end)) {
      throw new BangerError('bad_request', `${end} is published twice`, {
        hint: 'each port of the host leads to one port of the VM',
      });
    }
    seen.add(end);
  }
  return ports;
}

function checkPublishedPort(port: PublishedPort): PublishedPort {
  const { hostAddress, hostPort, guestPort } = port;
  if (!isIpv4(hostAddress) && !isIpv6(hostAddress)) throw notAnAddress(hostAddress);
  if (!isPort(hostPort)) throw new BangerError('bad_request', `${hostPort} is no port: 0 to ${MAX_PORT}`);
  if (isPort(guestPort) && guestPort !== 0) return port;
  throw new BangerError('bad_request', `${guestPort} is no port of a VM: 1 to ${MAX_PORT}`);
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= MAX_PORT;
}

function notAnAddress(text: string): BangerError {
  return new BangerError('bad_request', `${JSON.stringify(text.slice(0, 100))} is not an IP address`, {
    hint: FORMS,
  });
}
