/** VMMs that nobody wrote down: a daemon was killed between the start of a process and the writing of its handles. */

import { readdirSync, readFileSync } from 'node:fs';
import { processIdentity, type ProcessIdentity } from '../host/proc.ts';
import { VmmProcess } from '../vmm/process.ts';

/**
 * Ends every process whose arguments name a socket in the VM's own socket directory: only its VMM has such. Costs a
 * read of each /proc/<pid>/cmdline, so it is for VMs whose handles are missing.
 * @returns the pids it ended
 * @throws {BangerError} `vmm_failed`, `permission`
 */
export async function endStrayVmms(socketDir: string): Promise<readonly number[]> {
  const strays = findByArgument(`${socketDir}/`);
  for (const stray of strays) await VmmProcess.adopt(stray, { title: 'the VMM', logPaths: [] })?.kill();
  return strays.map(({ pid }) => pid);
}

function findByArgument(text: string): readonly ProcessIdentity[] {
  const pids = readdirSync('/proc').filter((name) => /^[1-9]\d*$/.test(name));
  return pids.map(Number).flatMap((pid) => {
    // Identity first: a pid that changes hands in between is then not ended.
    const identity = processIdentity(pid);
    return identity !== undefined && pid !== process.pid && commandLine(pid).includes(text) ? [identity] : [];
  });
}

/** proc(5): arguments, each ended by NUL; empty for kernel threads and processes that are gone. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}
