/** npm run bench [-- start|fork|restores|commands|throughput|workspace|reship|memory|state …]: all of them by default, each against a baseline of the same run. */

import { cpus, release } from 'node:os';
import { commandsBench } from './commands.bench.ts';
import { benchContext } from './lib/context.ts';
import { summaryOfBars } from './lib/report.ts';
import { forkBench } from './fork.bench.ts';
import { memoryBench } from './memory.bench.ts';
import { reshipBench } from './reship.bench.ts';
import { restoresBench } from './restores.bench.ts';
import { startBench } from './start.bench.ts';
import { stateBench } from './state.bench.ts';
import { throughputBench } from './throughput.bench.ts';
import { workspaceBench } from './workspace.bench.ts';

/** Those that boot machines get what the host's probe found; a context is made only for them. */
const WITH_MACHINES = {
  start: startBench,
  fork: forkBench,
  restores: restoresBench,
  commands: commandsBench,
  throughput: throughputBench,
  workspace: workspaceBench,
  reship: reshipBench,
  memory: memoryBench,
} as const;
const WITHOUT_MACHINES = { state: stateBench } as const;
const NAMES = [...Object.keys(WITH_MACHINES), ...Object.keys(WITHOUT_MACHINES)];

const stateDir = process.env['BANGER_TEST_ARTIFACTS'];
if (stateDir === undefined)
  throw new Error('BANGER_TEST_ARTIFACTS must name a state directory with a built image');
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !NAMES.includes(name));
if (unknown.length > 0) throw new Error(`no benchmark ${unknown.join(', ')}; there are ${NAMES.join(', ')}`);
const isWanted = ([name]: readonly [string, unknown]): boolean =>
  wanted.length === 0 || wanted.includes(name);

console.log(`${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, Linux ${release()}`);
const booting = Object.entries(WITH_MACHINES).filter(isWanted);
if (booting.length > 0) {
  const context = await benchContext(stateDir);
  const { accelerator, machine, vmmVersion } = context.platform;
  console.log(`QEMU ${vmmVersion} ${machine} ${accelerator}`);
  console.log(`VMs of ${context.vcpus} vCPU and ${context.memoryMib} MiB unless said otherwise`);
  for (const [, bench] of booting) await bench(context);
}
for (const [, bench] of Object.entries(WITHOUT_MACHINES).filter(isWanted)) await bench();
process.exit(summaryOfBars() ? 0 : 1);
