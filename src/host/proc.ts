/** Facts from /proc and the kernel about processes and the host: proc(5). All synchronous: they cost microseconds. */

import { readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';

/** Names one process for ever, unlike a pid, which the kernel gives out again. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: clock ticks from boot to the process's start. */
  readonly pidStartTicks: number;
  readonly hostBootId: string;
}

export interface ProcessUsage {
  /** User and system time since the process's start. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** USER_HZ: a constant of the Linux ABI on amd64 and arm64. */
const TICKS_PER_SECOND = 100;
const MIB = 1024 * 1024;

/** Undefined when there is no such process; a zombie counts as none once its last thread has ended. */
export function pidStartTicks(pid: number): number | undefined {
  return readStat(pid)?.startTicks;
}

/** Whether that very process is still there: not another one with its pid, and not before a reboot. */
export function isSameProcess(identity: ProcessIdentity): boolean {
  return identity.hostBootId === hostBootId() && identity.pidStartTicks === pidStartTicks(identity.pid);
}

/** The identity of a live process; undefined when it is gone. */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  const startTicks = pidStartTicks(pid);
  return startTicks === undefined ? undefined : { pid, pidStartTicks: startTicks, hostBootId: hostBootId() };
}

/** Changes with every boot of the host. */
export function hostBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Undefined when there is no such process. */
export function processUsage(pid: number): ProcessUsage | undefined {
  const stat = readStat(pid);
  const status = stat === undefined ? undefined : readProc(pid, 'status');
  if (stat === undefined || status === undefined) return undefined;
  const rssKib = Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0);
  return { cpuMs: (stat.cpuTicks * 1000) / TICKS_PER_SECOND, rssBytes: rssKib * 1024 };
}

/** Memory this process may use: the host's, or less inside a memory-limited container. */
export function hostMemoryMib(): number {
  const total = totalmem();
  // 0 or a number near 2^63 means "no limit".
  const limit = process.constrainedMemory();
  return Math.floor((limit > 0 && limit < total ? limit : total) / MIB);
}

/** CPUs this process may use. */
export function cpuCount(): number {
  return availableParallelism();
}

/** Bytes an unprivileged user can still write to the file system that holds `dir`. */
export function freeBytes(dir: string): number {
  const { bavail, bsize } = statfsSync(dir);
  return bavail * bsize;
}

interface Stat {
  readonly cpuTicks: number;
  readonly startTicks: number;
}

function readStat(pid: number): Stat | undefined {
  const text = readProc(pid, 'stat');
  if (text === undefined) return undefined;
  // Field 2 is the command in parentheses and may itself hold spaces and parentheses: count from the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  // A first thread that has ended is a zombie, too, while others still have files open and locked.
  const threads = Number(fields[17]);
  if (state === 'X' || (state === 'Z' && threads <= 1)) return undefined;
  const [userTicks, systemTicks, startTicks] = [fields[11], fields[12], fields[19]].map(Number);
  if (userTicks === undefined || systemTicks === undefined || !Number.isSafeInteger(startTicks)) {
    return undefined;
  }
  return { cpuTicks: userTicks + systemTicks, startTicks: startTicks as number };
}

function readProc(pid: number, file: string): string | undefined {
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
