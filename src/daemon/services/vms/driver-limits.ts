/** What the daemon does otherwise, or refuses, because of what the driver can. */

import { BangerError } from '../../../core/errors.ts';
import type { VmRecord, VmSpec } from '../../../core/model/vm.ts';
import type { DriverCapabilities, MachineNetwork, VmmDriver } from '../../../vmm/driver.ts';

/** Of VMs' root disks: the one that shares what VMs have in common, where the driver reads it. */
export function rootDiskFormat({ diskFormats }: DriverCapabilities): 'raw' | 'qcow2' {
  return diskFormats.includes('qcow2') ? 'qcow2' : 'raw';
}

/** Of a VM that there is. Its disk's file has one name whatever its format. */
export function diskFormatOf({ driver }: Pick<VmSpec, 'driver'>): 'raw' | 'qcow2' {
  return driver === 'firecracker' ? 'raw' : 'qcow2';
}

/** The network, or none where the driver has no such. */
export function networkFor<Network extends MachineNetwork>(
  { networks }: DriverCapabilities,
  network: Network,
): Network | { readonly kind: 'none' } {
  return networks.includes(network.kind) ? network : { kind: 'none' };
}

/** Before anything is made. @throws {BangerError} `unsupported` */
export function assertDriverCan({ name, capabilities }: VmmDriver, { nat }: Pick<VmSpec, 'nat'>): void {
  if (!nat || capabilities.networks.includes('user')) return;
  throw new BangerError('unsupported', `VMs of ${name} have no network: they cannot be given --nat`, {
    hint: 'ports of such a VM can be published all the same: -p',
  });
}

/** Disks and memory are of the driver a VM was made for. @throws {BangerError} `unsupported` */
export function assertMadeFor(driver: Pick<VmmDriver, 'name'>, { name, spec }: VmRecord): void {
  if (spec.driver === driver.name) return;
  const message = `VM "${name}" was made for ${spec.driver}, and this daemon uses ${driver.name}`;
  throw new BangerError('unsupported', message, {
    hint: `driver = "${spec.driver}" in config.toml, then: banger daemon stop`,
  });
}
