/** Starts a VM's machine and waits until its guest says hello: a guest that stays silent is started once more. */

import { readFile } from 'node:fs/promises';
import { BangerError, errorText } from '../../../core/errors.ts';
import type { Accelerator } from '../../../core/model/vm.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import type { Log } from '../../../host/log.ts';
import type { MachineSpec, VmmDriver } from '../../../vmm/driver.ts';
import type { Undo } from '../../undo.ts';
import { removeHandles, type VmFiles, writeHandles } from '../../vm-files.ts';
import { LiveVm } from './live-vm.ts';

/**
 * How long a guest may take to say hello, attempt by attempt. Software emulation on a loaded host is slow; and about one
 * emulated boot in some hundreds hangs before its first sign of life (seen with five boots at once on two cores).
 */
const HELLO_TIMEOUTS_MS: Readonly<Record<Accelerator, readonly number[]>> = {
  kvm: [15_000, 30_000],
  tcg: [30_000, 60_000],
};
const CONSOLE_TAIL_LINES = 8;
const CONSOLE_TAIL_BYTES = 16 * 1024;

export interface MachineStart {
  readonly driver: VmmDriver;
  readonly log: Log;
  readonly vmId: string;
  readonly spec: MachineSpec;
  readonly files: VmFiles;
  readonly undo: Undo;
  readonly signal: AbortSignal;
  /** Told each step's stable name and text as it begins. */
  readonly say: (step: string, text: string) => void;
}

export interface StartedMachine {
  readonly live: LiveVm;
  readonly agent: AgentClient;
}

/** @throws {BangerError} `vmm_failed`, `guest_failed` (with the console's last lines), `cancelled` */
export async function startMachine(start: MachineStart): Promise<StartedMachine> {
  const timeouts = HELLO_TIMEOUTS_MS[start.spec.platform.accelerator];
  for (const [attempt, timeoutMs] of timeouts.entries()) {
    const { machine, accelerator } = start.spec.platform;
    start.say('start_vmm', `starting ${machine} (${accelerator})`);
    const live = await launch(start);
    if (start.signal.aborted) throw new BangerError('cancelled', 'cancelled');
    start.say('boot', 'booting the guest');
    try {
      return { live, agent: await hello(live, start.signal, timeoutMs) };
    } catch (error) {
      const silent = error instanceof BangerError && error.code === 'timeout';
      if (!silent || attempt === timeouts.length - 1) throw await notUp(start, error);
      start.log.warn({ vm: start.spec.name, timeoutMs }, 'the guest gave no sign of life; starting it again');
      await endMachine(live);
    }
  }
  throw new Error('there is no attempt');
}

/** The handles are on disk before anything else learns of the process. */
async function launch({ driver, vmId, spec, files, undo }: MachineStart): Promise<LiveVm> {
  let live: LiveVm | undefined;
  return await undo.step(
    'vmm',
    async () => {
      const machine = await driver.launch(spec, (handles) => writeHandles(files, handles));
      live = new LiveVm(vmId, machine, 'launched');
      return live;
    },
    async () => {
      if (live !== undefined) await endMachine(live);
      await removeHandles(files);
    },
  );
}

export async function endMachine(live: LiveVm): Promise<void> {
  live.ending = true;
  await live.machine.kill();
  live.release();
}

async function hello(live: LiveVm, signal: AbortSignal, timeoutMs: number): Promise<AgentClient> {
  const agent = await live.agent(signal, timeoutMs);
  if (agent.hello.error === null) return agent;
  throw new BangerError('guest_failed', agent.hello.error);
}

async function notUp({ spec, files }: MachineStart, error: unknown): Promise<unknown> {
  const known = error instanceof BangerError ? error : undefined;
  if (known?.code === 'cancelled') return known;
  const tail = await consoleTail(files.consoleLog);
  const lastLines = tail === '' ? '' : `; its console's last lines:\n${tail}`;
  const message = `VM "${spec.name}" did not come up: ${errorText(error)}${lastLines}`;
  // A VMM that ended has said why; a silent guest may mean that its accelerator does not work.
  if (known?.code === 'vmm_failed') return new BangerError('vmm_failed', message, { cause: error });
  const hint =
    spec.platform.accelerator === 'kvm'
      ? 'banger vm run --accel tcg does without KVM'
      : 'banger daemon logs has the details; a loaded host may need a second try';
  return new BangerError('guest_failed', message, { cause: error, hint });
}

/** What the guest printed last, without what a terminal would obey. */
async function consoleTail(path: string): Promise<string> {
  const bytes = await readFile(path).catch(() => Buffer.alloc(0));
  const text = bytes.subarray(-CONSOLE_TAIL_BYTES).toString('latin1');
  const plain = text.replaceAll(/\u001b\[[0-9;?]*[A-Za-z]|[^\n\x20-\x7e]/g, '').trim();
  return plain.split('\n').slice(-CONSOLE_TAIL_LINES).join('\n');
}
