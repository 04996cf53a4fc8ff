/** What every benchmark gets: where the artifacts are, and what this host's probe found. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VmDetail } from '../../src/api/results/vm.ts';
import type { Platform } from '../../src/vmm/driver.ts';
import { ProgramHome } from './program.ts';

export interface BenchContext {
  readonly stateDir: string;
  readonly platform: Platform;
  /** The size `vm run` gives a VM here when nobody says. */
  readonly vcpus: number;
  readonly memoryMib: number;
}

export async function benchContext(stateDir: string): Promise<BenchContext> {
  await using home = new ProgramHome(stateDir);
  await home.banger(['vm', 'create', '--name', 'facts']);
  const { spec, runtime } = await home.json<VmDetail>(['vm', 'show', 'facts']);
  const probes = JSON.parse(readFileSync(join(home.dir, 'cache', 'probe.json'), 'utf8')) as Record<
    string,
    { chosen: Platform }
  >;
  const platform = Object.values(probes)
    .map(({ chosen }) => chosen)
    .find(({ accelerator, machine }) => accelerator === runtime.accelerator && machine === runtime.machine);
  if (platform === undefined) throw new Error('the probe file does not name the platform the VM runs on');
  return { stateDir, platform, vcpus: spec.vcpus, memoryMib: spec.memoryMib };
}
