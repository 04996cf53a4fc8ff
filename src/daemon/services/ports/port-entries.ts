/** What listens in a guest, joined with what the host publishes of it. */

import type { PortEntry, VmView } from '../../../api/results/vm.ts';
import { guessUrl } from '../../../core/port-url.ts';
import { formatHostEnd, isReachedByLoopback, publishedPorts } from '../../../core/published-port.ts';
import type { GuestPort } from '../../../guest/answers.ts';

/** By port, then by process; what nobody serves is the last of its port. */
export function portEntries(vm: VmView, listening: readonly GuestPort[]): readonly PortEntry[] {
  const open = publishedPorts(vm).filter(({ problem }) => problem === undefined);
  const listed = listening.map((entry) => ({
    ...entry,
    endpoint: `${vm.name}.vm:${entry.port}`,
    published: open.filter(({ guestPort }) => isServedBy(entry, guestPort)).map(formatHostEnd),
    ...forwardOf(vm, entry),
  }));
  const unserved = open.filter(({ guestPort }) => !listening.some((entry) => isServedBy(entry, guestPort)));
  const silent = unserved.map((port) => ({
    ...{ protocol: 'tcp' as const, address: null, port: port.guestPort, pid: null, process: null },
    endpoint: `${vm.name}.vm:${port.guestPort}`,
    published: [formatHostEnd(port)],
    ...{ forwarded: null, problem: null, url: null },
  }));
  const byProcess = listed.toSorted((a, b) => compare(a.process ?? '', b.process ?? ''));
  return [...byProcess, ...silent].toSorted((a, b) => a.port - b.port);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What listens twice, on IPv4 and IPv6, has one port. */
function forwardOf(
  { name, hostAddress, runtime }: VmView,
  { protocol, port }: GuestPort,
): Pick<PortEntry, 'forwarded' | 'problem' | 'url'> {
  const forward = protocol === 'tcp' ? runtime.forwarded?.find((one) => one.port === port) : undefined;
  if (forward === undefined || hostAddress === null) return { forwarded: null, problem: null, url: null };
  const { problem = null } = forward;
  if (problem !== null) return { forwarded: null, problem, url: null };
  return {
    forwarded: formatHostEnd({ hostAddress, hostPort: port }),
    problem,
    url: guessUrl(`${name}.vm`, port),
  };
}

function isServedBy(entry: GuestPort, guestPort: number): boolean {
  return entry.protocol === 'tcp' && entry.port === guestPort && isReachedByLoopback(entry.address);
}
