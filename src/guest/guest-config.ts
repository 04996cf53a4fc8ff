/** The configuration for a guest that is being started now: the facts plus this moment's clock and fresh entropy. */

import { createHash, randomBytes } from 'node:crypto';
import { type GuestConfig, type GuestFacts, guestConfigFrom } from '../core/guestconfig/guest-config.ts';
import { wallClockNs } from './wall-clock.ts';

export const ENTROPY_BYTES = 64;

/** Facts about the VM itself; what a start adds to them is made here. */
export interface GuestStart extends Omit<GuestFacts, 'entropy' | 'clockNs' | 'machineId'> {
  /** Gives the guest a machine id, the same at every start. Left out: the image's stays. */
  readonly vmId?: string;
}

export function buildGuestConfig({ vmId, ...facts }: GuestStart): GuestConfig {
  return guestConfigFrom({
    ...facts,
    machineId: vmId === undefined ? '' : machineIdOf(vmId),
    entropy: randomBytes(ENTROPY_BYTES),
    clockNs: wallClockNs(),
  });
}

/**
 * A machine id that is stable for the VM and tells nothing about its id: machine-id(5) asks that it be kept to the machine.
 * In the form of a UUID of version 4, as systemd makes them.
 */
export function machineIdOf(vmId: string): string {
  const digest = createHash('sha256').update(`banger machine id ${vmId}`).digest();
  digest.writeUInt8((digest.readUInt8(6) & 0x0f) | 0x40, 6);
  digest.writeUInt8((digest.readUInt8(8) & 0x3f) | 0x80, 8);
  return digest.toString('hex', 0, 16);
}
