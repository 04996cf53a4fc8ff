/** What a process needed of memory: proc(5), /proc/pid/status. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

function field(pid: number, name: string): number {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  assert.ok(found?.[1], `process ${pid} has no ${name}`);
  return Number(found[1]) / 1024;
}

/** MiB of its own that are resident now: without the program's file, whose pages come and go with what the host needs. */
export function anonymousMib(pid: number): number {
  return field(pid, 'RssAnon');
}

/** MiB that were resident at most until now. */
export function peakMib(pid: number): number {
  return field(pid, 'VmHWM');
}
