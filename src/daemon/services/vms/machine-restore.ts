/** Starts a VM's machine from a frozen one and waits until its guest says hello: soon, or it is given up. */

import { BangerError } from '../../../core/errors.ts';
import type { GuestConfig } from '../../../core/guestconfig/guest-config.ts';
import type { Accelerator } from '../../../core/model/vm.ts';
import { type FrozenMachine, frozenPaths } from '../../../frozen/manifest.ts';
import type { MachineSpec, ShapeDigests } from '../../../vmm/driver.ts';
import { removeHandles, writeHandles } from '../../vm-files.ts';
import { configureCopy } from '../guests/guest-clock.ts';
import { LiveVm } from './live-vm.ts';
import { endMachine, type MachineStart, type StartedMachine } from './machine-start.ts';

/**
 * The watchdog: a restored guest answers within some 100 ms, or never. What it waits for beyond that is the host, which may
 * be starting many at once.
 */
const HELLO_TIMEOUTS_MS: Readonly<Record<Accelerator, number>> = { kvm: 5000, tcg: 15_000 };

/** A disk that grows is grown before the answer: ext4 takes seconds for each TiB under emulation. */
export const CONFIGURE_TIMEOUT_MS = 30_000;

export interface MachineRestore extends Omit<MachineStart, 'say'> {
  readonly frozen: FrozenMachine;
  /** Instead of the watchdog's time: nothing can take the place of this guest. */
  readonly helloTimeoutMs?: number;
  /**
   * Whether the agent is handed out only once it has answered: somebody was connected to it when it was frozen, and who asks
   * next is not ready to ask again (configureRestored is).
   */
  readonly mustAnswer: boolean;
  /** Awaited right before the guest goes on: RestoreOptions. */
  readonly beforeRun?: () => Promise<void>;
  /** Of the kernel and the initramfs in `spec`. */
  readonly digests: ShapeDigests;
  /** What the VM's disk has: as much as the template's, or more. */
  readonly rootDiskBytes: number;
}

/** @throws {BangerError} `unsupported`, `verify_failed`, `vmm_failed`, `timeout` (the watchdog), `guest_failed`, `cancelled` */
export async function restoreMachine(restore: MachineRestore): Promise<StartedMachine> {
  const { vmId, undo, files, signal, spec } = restore;
  const watchdogMs = HELLO_TIMEOUTS_MS[spec.platform.accelerator];
  let live: LiveVm | undefined;
  const end = async (): Promise<void> => {
    if (live !== undefined) await endMachine(live);
    await removeHandles(files);
  };
  try {
    return await undo.step(
      'vmm',
      async () => {
        live = new LiveVm(vmId, await launch(restore), restore.mustAnswer ? 'adopted' : 'launched');
        const agent = await live.agent(signal, restore.helloTimeoutMs ?? watchdogMs);
        if (agent.hello.error !== null) throw new BangerError('guest_failed', agent.hello.error);
        return { live, agent };
      },
      end,
    );
  } catch (error) {
    // The caller may go on without it.
    await end();
    throw error;
  }
}

/**
 * Makes a restored machine one of its own. Its guest may tell only now that the host hung up that it was saved with, or just
 * before it was, which ends the first connection: docs/agent-protocol.md, "Opening".
 * @throws {BangerError} what AgentClient.configure throws
 */
export async function configureRestored(
  { live, agent }: StartedMachine,
  config: GuestConfig,
  signal: AbortSignal,
): Promise<StartedMachine> {
  try {
    await configureCopy(agent, config, signal, CONFIGURE_TIMEOUT_MS);
    return { live, agent };
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'channel_broken') throw error;
    await agent.closed;
    const again = await live.agent(signal);
    await configureCopy(again, config, signal, CONFIGURE_TIMEOUT_MS);
    return { live, agent: again };
  }
}

async function launch({
  driver,
  spec,
  files,
  frozen,
  digests,
  rootDiskBytes,
  beforeRun,
  signal,
}: MachineRestore) {
  const paths = frozenPaths(frozen.dir);
  const restored: MachineSpec = { ...spec, memory: { kind: 'file', path: paths.memory } };
  const options = {
    state: { path: paths.state, ...frozen.state },
    shape: frozen.shape,
    digests,
    grownDisks: rootDiskBytes > frozen.rootDiskBytes ? [{ id: 'root', sizeBytes: rootDiskBytes }] : [],
    signal,
    ...(beforeRun && { beforeRun }),
  };
  return await driver.restore(restored, options, (handles) => writeHandles(files, handles));
}
