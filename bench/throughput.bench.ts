/** (e) bytes through `vm exec` as a whole process, against the raw channel, both ways. */

import { spawn } from 'node:child_process';
import { BareMachine } from './lib/bare-machine.ts';
import type { BenchContext } from './lib/context.ts';
import { ProgramHome, ROOT } from './lib/program.ts';
import { figure, heading } from './lib/report.ts';
import { median, timed } from './lib/stats.ts';

const BYTES = 256 * 1024 * 1024;
const RUNS = 3;
const CHUNK = new Uint8Array(1024 * 1024);
/** The guest's own programs cost a multiple under emulation: large blocks keep them out of the figure. */
const SEND = ['sh', '-c', `head -c ${BYTES} /dev/zero`];
const TAKE = ['sh', '-c', 'exec dd of=/dev/null bs=1M iflag=fullblock 2>/dev/null'];

export async function throughputBench(context: BenchContext): Promise<void> {
  heading(`Throughput: ${BYTES / 1024 ** 2} MiB of zeros, median of ${RUNS}`);
  await using bare = await BareMachine.boot(context);
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['vm', 'create', '--name', 'pipe']);
  const rows: [string, () => Promise<unknown>][] = [
    ['raw channel, guest to host', () => bare.run(SEND)],
    ['banger vm exec, guest to host', () => pipe(home, SEND, false)],
    ['raw channel, host to guest', () => bare.run(TAKE, zeros())],
    ['banger vm exec, host to guest', () => pipe(home, TAKE, true)],
  ];
  for (const [name, work] of rows) {
    const times: number[] = [];
    for (let run = 0; run < RUNS; run++) times.push(await timed(work));
    figure(`(e) ${name}`, `${(BYTES / 1e6 / (median(times) / 1000)).toFixed(0)} MB/s`);
  }
}

function* zeros(): Generator<Uint8Array> {
  for (let sent = 0; sent < BYTES; sent += CHUNK.length) yield CHUNK;
}

async function pipe(home: ProgramHome, command: readonly string[], feed: boolean): Promise<void> {
  const source = feed
    ? spawn('head', ['-c', String(BYTES), '/dev/zero'], { stdio: ['ignore', 'pipe', 'inherit'] })
    : null;
  const child = spawn(`${ROOT}/banger`, ['vm', 'exec', 'pipe', '--', ...command], {
    env: home.env,
    stdio: [source?.stdout ?? 'ignore', 'ignore', 'inherit'],
  });
  source?.stdout.destroy();
  const status = await new Promise((resolve) => child.on('exit', resolve));
  if (status !== 0) throw new Error(`vm exec ended with ${String(status)}`);
}
