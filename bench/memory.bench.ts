/** (g) memory of the daemon and of idle VMs, and what idle VMs cost in CPU time. */

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmView } from '../src/api/results/vm.ts';
import type { BenchContext } from './lib/context.ts';
import { ProgramHome } from './lib/program.ts';
import { figure, heading } from './lib/report.ts';
import { median } from './lib/stats.ts';

const VMS = 10;
const IDLE_VMS = 5;
const GUEST_MEMORY_MIB = 512;
const IDLE_SECONDS = 20;
const TICKS_PER_SECOND = 100;

export async function memoryBench(context: BenchContext): Promise<void> {
  heading(`Memory and idle cost: VMs of ${GUEST_MEMORY_MIB} MiB`);
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['vm', 'list']);
  const { pid } = await home.json<{ pid: number }>(['daemon', 'status']);
  figure('(g) daemon, no VM', `${rssMib(pid).toFixed(1)} MiB resident`);
  const pids: number[] = [];
  for (let index = 0; index < VMS; index++) {
    await home.banger(['vm', 'create', '--memory', String(GUEST_MEMORY_MIB), '--name', `idle${index}`]);
    if (index + 1 === IDLE_VMS) await idleCpu(pid, await vmmPids(home));
  }
  pids.push(...(await vmmPids(home)));
  figure(`(g) daemon, ${VMS} VMs`, `${rssMib(pid).toFixed(1)} MiB resident`);
  const usage = pids.map((vmm) => vmmMemory(vmm));
  figure(
    '(g) idle VM: guest memory in use',
    `${median(usage.map(({ guestMib }) => guestMib)).toFixed(1)} MiB`,
  );
  figure(
    '(g) idle VM: above its guest memory',
    `${median(usage.map(({ otherMib }) => otherMib)).toFixed(1)} MiB (PSS)`,
  );
}

async function vmmPids(home: ProgramHome): Promise<number[]> {
  const vms = await home.json<readonly VmView[]>(['vm', 'list']);
  return vms.flatMap((vm) => (vm.pid === null ? [] : [vm.pid]));
}

async function idleCpu(daemon: number, vmms: readonly number[]): Promise<void> {
  await sleep(3000);
  const before = { daemon: cpuTicks(daemon), vmms: vmms.map(cpuTicks) };
  await sleep(IDLE_SECONDS * 1000);
  const percent = (ticks: number): string =>
    `${((ticks / TICKS_PER_SECOND / IDLE_SECONDS) * 100).toFixed(2)} % of a CPU`;
  const used = vmms.reduce((sum, pid, index) => sum + cpuTicks(pid) - (before.vmms[index] ?? 0), 0);
  figure(`(g) ${vmms.length} idle VMs together, ${IDLE_SECONDS} s`, percent(used));
  figure('(g) daemon meanwhile', percent(cpuTicks(daemon) - before.daemon));
}

/** utime + stime: proc(5), fields 14 and 15. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

function rssMib(pid: number): number {
  return (
    Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? Number.NaN) / 1024
  );
}

/** The guest's memory is the one mapping of exactly its size; the rest is QEMU's own. */
function vmmMemory(pid: number): { readonly guestMib: number; readonly otherMib: number } {
  let guestKib = 0;
  let otherKib = 0;
  for (const block of readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const size = Number(/^Size:\s+(\d+) kB/m.exec(block)?.[1] ?? 0);
    const pss = Number(/^Pss:\s+(\d+) kB/m.exec(block)?.[1] ?? 0);
    if (size === GUEST_MEMORY_MIB * 1024) guestKib += pss;
    else otherKib += pss;
  }
  return { guestMib: guestKib / 1024, otherMib: otherKib / 1024 };
}
