/** The configuration for a guest that is being started now: the facts plus this moment's clock and fresh entropy. */

import { randomBytes } from 'node:crypto';
import { type GuestConfig, type GuestFacts, guestConfigFrom } from '../core/guestconfig/guest-config.ts';

export const ENTROPY_BYTES = 64;

export function buildGuestConfig(facts: Omit<GuestFacts, 'entropy' | 'clockMs'>): GuestConfig {
  return guestConfigFrom({ ...facts, entropy: randomBytes(ENTROPY_BYTES), clockMs: Date.now() });
}
