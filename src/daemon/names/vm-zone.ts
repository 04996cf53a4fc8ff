/** The names of this instance's VMs, as `NAME.vm` on their own addresses. */

import { instanceAddressOf, reverseZoneOf } from '../../core/host-address.ts';
import type { VmRecord, VmState } from '../../core/model/vm.ts';
import type { Store } from '../../store/store.ts';
import type { VmRegistry } from '../services/vms/vm-registry.ts';
import type { Zone } from './answer.ts';

/** No VM can have it, because it has a dot: what `banger doctor` asks for. It stands for the instance. */
export const PROBE_NAME = 'probe.banger';
/** Where a connection gets somewhere, or waits. Of a stopped VM, the address could lead to another program of the host. */
const NAMED: ReadonlySet<VmState> = new Set(['starting', 'running', 'stopping', 'paused', 'saved']);

export function vmZone(store: Pick<Store, 'getVmByName'>, registry: VmRegistry): Zone {
  const { hostPrefix } = registry;
  const probeAddress = instanceAddressOf(hostPrefix);
  const addressOf = (vm: VmRecord): string | undefined =>
    NAMED.has(vm.state) ? (registry.hostAddressOf(vm) ?? undefined) : undefined;
  return {
    addressOf: (name) => {
      if (name === PROBE_NAME) return probeAddress;
      const vm = store.getVmByName(name);
      return vm === undefined ? undefined : addressOf(vm);
    },
    nameOf: (address) => {
      if (address === probeAddress) return PROBE_NAME;
      return registry.rows().find((vm) => addressOf(vm) === address)?.name;
    },
    reverseZone: reverseZoneOf(hostPrefix),
  };
}
