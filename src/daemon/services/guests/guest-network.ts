/** Where guests have their addresses. */

import type { VmRecord } from '../../../core/model/vm.ts';
import type { UserNetwork } from '../../../vmm/driver.ts';

/** Three octets: the Go program's default bridge network, so that its users find their addresses again. */
export const GUEST_PREFIX = '172.16.0';

/** A VM's MAC address, made of its id. */
export function macOf(vmId: string): string {
  return `52:54:00:${vmId.slice(0, 2)}:${vmId.slice(2, 4)}:${vmId.slice(4, 6)}`;
}

/** Each VM has a /24 of its own in user mode, so only the guest's own address matters for uniqueness. */
export function userNetworkOf(vm: {
  readonly id: string;
  readonly guestIp: string;
  readonly outbound: boolean;
}): UserNetwork {
  const octets = vm.guestIp.split('.');
  const prefix = octets.slice(0, 3).join('.');
  return {
    kind: 'user',
    outbound: vm.outbound,
    mac: macOf(vm.id),
    guestIp: vm.guestIp,
    gatewayIp: `${prefix}.1`,
    dnsIp: octets[3] === '254' ? `${prefix}.253` : `${prefix}.254`,
  };
}

export function networkOf({ id, guestIp, spec }: VmRecord): UserNetwork {
  return userNetworkOf({ id, guestIp, outbound: spec.nat });
}
