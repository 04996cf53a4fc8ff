/** What listens in a guest, joined with what the host publishes of it. */

import type { PortEntry } from '../../api/contract.ts';
import type { VmRecord } from '../../core/model/vm.ts';
import { formatHostEnd, isReachedByLoopback, publishedPorts } from '../../core/published-port.ts';
import type { GuestPort } from '../../guest/answers.ts';

export function portEntries(vm: VmRecord, listening: readonly GuestPort[]): readonly PortEntry[] {
  const open = publishedPorts(vm).filter(({ problem }) => problem === undefined);
  const listed = listening.map((entry) => ({
    ...entry,
    endpoint: `${vm.name}.vm:${entry.port}`,
    published: open.filter(({ guestPort }) => isServedBy(entry, guestPort)).map(formatHostEnd),
  }));
  const unserved = open.filter(({ guestPort }) => !listening.some((entry) => isServedBy(entry, guestPort)));
  return [
    ...listed,
    ...unserved.map((port) => ({
      ...{ protocol: 'tcp' as const, address: null, port: port.guestPort, pid: null, process: null },
      endpoint: `${vm.name}.vm:${port.guestPort}`,
      published: [formatHostEnd(port)],
    })),
  ];
}

function isServedBy(entry: GuestPort, guestPort: number): boolean {
  return entry.protocol === 'tcp' && entry.port === guestPort && isReachedByLoopback(entry.address);
}
