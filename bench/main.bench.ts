/** npm run bench [-- start|commands|throughput|workspace|memory …]: all of them by default, each against a baseline of the same run. */

import { cpus, release } from 'node:os';
import { commandsBench } from './commands.bench.ts';
import { benchContext } from './lib/context.ts';
import { summaryOfBars } from './lib/report.ts';
import { memoryBench } from './memory.bench.ts';
import { startBench } from './start.bench.ts';
import { throughputBench } from './throughput.bench.ts';
import { workspaceBench } from './workspace.bench.ts';

const BENCHES = {
  start: startBench,
  commands: commandsBench,
  throughput: throughputBench,
  workspace: workspaceBench,
  memory: memoryBench,
} as const;

const stateDir = process.env['BANGER_TEST_ARTIFACTS'];
if (stateDir === undefined)
  throw new Error('BANGER_TEST_ARTIFACTS must name a state directory with a built image');
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0)
  throw new Error(`no benchmark ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);

const context = await benchContext(stateDir);
const { accelerator, machine, vmmVersion } = context.platform;
console.log(
  `${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, Linux ${release()}, QEMU ${vmmVersion} ${machine} ${accelerator}`,
);
console.log(`VMs of ${context.vcpus} vCPU and ${context.memoryMib} MiB unless said otherwise`);
for (const [name, bench] of Object.entries(BENCHES)) {
  if (wanted.length === 0 || wanted.includes(name)) await bench(context);
}
process.exit(summaryOfBars() ? 0 : 1);
