/** Waiting for a process that is not a child: proc(5). */

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 10;

/**
 * Resolves with true once that process is gone (a zombie is), with false when it is still there after `timeoutMs`. Which
 * process the pid stands for is settled at the call: one that is given the pid later is another.
 */
export async function processEnd(pid: number, timeoutMs: number): Promise<boolean> {
  const begun = startOf(pid);
  if (begun === undefined) return true;
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    if (startOf(pid) !== begun) return true;
    if (performance.now() >= deadlineMs) return false;
    await sleep(POLL_MS);
  }
}

/** Clock ticks from the host's boot to the start of a live process. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The program's name, in parentheses, may hold anything: fields are counted behind it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
