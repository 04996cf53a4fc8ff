/** The wall clocks of guests that stood still, or that were somebody else until now. */

import type { GuestConfig } from '../../../core/guestconfig/guest-config.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import type { GuestHello } from '../../../guest/answers.ts';
import { wallClockNs } from '../../../guest/wall-clock.ts';
import type { LiveVm } from '../vms/live-vm.ts';

const CLOCK_TIMEOUT_MS = 10_000;
const CLOCK_TRIES = 5;
/** There and back. */
const CLOCK_TRIP_MS = 20;
/** How old what a guest says of its clock may be. */
const MAX_LATE_MS = 40;

/** @throws {BangerError} what `LiveVm.agent` and the agent's CLOCK throw */
export async function correctClock(live: LiveVm, timeoutMs: number = CLOCK_TIMEOUT_MS): Promise<void> {
  const signal = AbortSignal.timeout(timeoutMs);
  await setGuestClock(await live.agent(signal, timeoutMs), signal);
}

/**
 * What the clock is set to is old by what the way there took, which on a busy host, or with code that runs for the first
 * time under emulation, can be long: then it is set again.
 */
export async function setGuestClock(agent: AgentClient, signal: AbortSignal): Promise<void> {
  for (let tries = 1; tries <= CLOCK_TRIES; tries += 1) {
    const sent = performance.now();
    await agent.setClock(wallClockNs(), signal);
    if (performance.now() - sent <= CLOCK_TRIP_MS) return;
  }
}

/**
 * Tells a copy of another machine who it is, and sets its clock once more where the way took long.
 * @throws {BangerError} what AgentClient.configure throws
 */
export async function configureCopy(
  agent: AgentClient,
  config: GuestConfig,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<void> {
  const hello = await agent.configure(config, signal, timeoutMs);
  if (!isOnTime(hello)) await setGuestClock(agent, signal);
}

/** What it says is as old as the ways of the request and of the answer together took. */
function isOnTime({ clockMs }: GuestHello): boolean {
  return clockMs !== undefined && Math.abs(Date.now() - clockMs) <= MAX_LATE_MS;
}
