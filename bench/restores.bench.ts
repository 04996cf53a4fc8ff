/** Many starts from one template, one after the other: none may hang, and none may be somebody else. */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { TemplateStore } from '../src/frozen/template-store.ts';
import type { BenchContext } from './lib/context.ts';
import { templateOf } from './lib/home-template.ts';
import { BANGER, ProgramHome } from './lib/program.ts';
import { bar, columns, heading, row } from './lib/report.ts';
import { summarize } from './lib/stats.ts';

const RUNS = Number(process.env['BENCH_RESTORES'] ?? 500);
/** What a VM says of itself: its name, its ids, 16 bytes of its randomness, its clock in seconds. */
const WHO =
  'hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1; date +%s';
const MAX_SKEW_S = 2;

export async function restoresBench(context: BenchContext): Promise<void> {
  heading(`Restores: ${RUNS} in a row`);
  await using home = new ProgramHome(context.stateDir);
  await home.banger(['image', 'warm']);
  await templateOf(home);
  const times: number[] = [];
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (let run = 0; run < RUNS; run++) {
    const name = `run-${run}`;
    const began = performance.now();
    const answer = await outputOf(home, ['vm', 'run', '--rm', '--name', name, '--', 'sh', '-c', WHO]);
    times.push(performance.now() - began);
    const [hostname, machineId = '', bootId = '', random = '', seconds] = answer.trim().split('\n');
    const fresh = [machineId, bootId, random].every((text) => text.length >= 16 && !seen.has(text));
    for (const text of [machineId, bootId, random]) seen.add(text);
    const skew = Math.abs(Date.now() / 1000 - Number(seconds));
    if (hostname !== name || !fresh || !(skew <= MAX_SKEW_S)) wrong.push(answer);
  }
  columns();
  row('(m) vm run --rm from a template, five commands', summarize(times));
  for (const answer of wrong) console.log(answer);
  bar(`(m) ${RUNS} restores, none of them wrong`, wrong.length === 0);
  bar('(m) none past the watchdog', (await watchdogFailures(home)) === 0);
}

async function watchdogFailures(home: ProgramHome): Promise<number> {
  return (await new TemplateStore(join(home.dir, 'state', 'templates')).failures()).length;
}

async function outputOf(home: ProgramHome, args: readonly string[]): Promise<string> {
  const child = spawn(BANGER, [...args], { env: home.env, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  for await (const chunk of child.stdout) text += String(chunk);
  return text;
}
