/** What a guest on the host's own CPU sees of it. */

import { readFile } from 'node:fs/promises';
import { release } from 'node:os';

/** With KVM the state holds what the host's CPU and kernel offer: proc(5), /proc/cpuinfo. */
export async function describeHostCpu(): Promise<string> {
  const first = (await readFile('/proc/cpuinfo', 'utf8')).split('\n\n', 1)[0] ?? '';
  const facts = first.split('\n').filter((line) => /^(model name|stepping|microcode|flags)\s*:/.test(line));
  return [release(), ...facts].join('\n');
}
