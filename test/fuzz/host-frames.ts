/**
 * Fuzzes the host side of the guest channel: `node test/fuzz/host-frames.ts [FILE …]`.
 *
 * Mutates valid conversations and the files of corpus/host/ for FUZZ_SECONDS (default 10); FUZZ_SEED repeats a run.
 * With files it runs just these. Fails on anything thrown that bad input may not cause, an unhandled rejection, memory
 * that grows, or a hang, and saves the input in FUZZ_OUTPUT (default: the directory for temporary files).
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { decodeCase, encodeCase, type HostCase, validCases } from './host-case.ts';
import { outcomes, runHostCase } from './host-target.ts';
import { mutate } from './mutate.ts';
import { Random } from './random.ts';
import { Watchdog } from './watchdog.ts';

const CORPUS = new URL('corpus/host/', import.meta.url);
const MAX_GROWTH_BYTES = 64 * 1024 * 1024;
const MEMORY_CHECK_CASES = 500;
const MAX_SAVED_BYTES = 12 * 1024 * 1024;
/** A mutant becomes one more input now and then, so that changes add up. */
const KEEP_ONE_IN = 50;
const MAX_INPUTS = 200;

const seconds = Number(process.env['FUZZ_SECONDS'] ?? 10);
const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 32);
const outputDir = process.env['FUZZ_OUTPUT'] ?? tmpdir();
const failurePath = join(outputDir, `host-frames-${seed}.bin`);
let current: Buffer = Buffer.alloc(0);

function fail(why: unknown): never {
  mkdirSync(outputDir, { recursive: true });
  writeFileSync(failurePath, current);
  console.error(`fuzz: FUZZ_SEED=${seed}: ${why instanceof Error ? why.stack : String(why)}`);
  console.error(`fuzz: input saved as ${failurePath}`);
  process.exit(1);
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function memoryBytes(): number {
  collectGarbage();
  const usage = process.memoryUsage();
  return usage.heapUsed + usage.external;
}

async function runOne(one: HostCase, random: Random, watchdog: Watchdog): Promise<boolean> {
  current = encodeCase(one);
  watchdog.begin(current);
  return await runHostCase(one, random);
}

function corpus(): HostCase[] {
  const names = readdirSync(CORPUS).filter((name) => name.endsWith('.bin'));
  return names.sort().map((name) => decodeCase(readFileSync(new URL(name, CORPUS))));
}

async function fuzz(watchdog: Watchdog): Promise<number> {
  const random = new Random(seed);
  const valid = validCases();
  // What is valid gets furthest: it is taken as often as all the rest.
  const seeds = [...valid, ...valid, ...valid, ...valid, ...valid, ...corpus()];
  const inputs = [...seeds];
  for (const one of inputs) await runOne(one, random, watchdog);
  let baseBytes: number | undefined;
  let cases = inputs.length;
  for (const end = performance.now() + seconds * 1000; performance.now() < end; cases++) {
    // Mutants of mutants alone would soon all break at their first frame.
    const from = random.chance(2) ? seeds : inputs;
    const one = from[random.below(from.length)] as HostCase;
    const mutant = mutate(random, one, inputs[random.below(inputs.length)] as HostCase);
    const gotFar = await runOne(mutant, random, watchdog);
    if (gotFar && random.chance(KEEP_ONE_IN) && inputs.length < MAX_INPUTS) inputs.push(mutant);
    if (cases % MEMORY_CHECK_CASES !== 0 || inputs.length < MAX_INPUTS) continue;
    const bytes = memoryBytes();
    baseBytes ??= bytes;
    if (bytes - baseBytes > MAX_GROWTH_BYTES) fail(`memory grew by ${bytes - baseBytes} bytes`);
  }
  return cases;
}

async function main(files: readonly string[]): Promise<void> {
  process.on('unhandledRejection', fail);
  process.on('uncaughtException', fail);
  console.log(`fuzz: FUZZ_SEED=${seed} FUZZ_SECONDS=${seconds}`);
  const watchdog = new Watchdog(MAX_SAVED_BYTES, failurePath);
  try {
    const random = new Random(seed);
    for (const file of files) await runOne(decodeCase(readFileSync(file)), random, watchdog);
    const cases = files.length > 0 ? files.length : await fuzz(watchdog);
    console.log(`fuzz: ${cases} cases, no finding`);
  } catch (error) {
    fail(error);
  }
  for (const [what, times] of [...outcomes].toSorted(([a], [b]) => a.localeCompare(b)))
    console.log(`  ${String(times).padStart(8)} ${what}`);
  await watchdog.stop();
}

await main(process.argv.slice(2));
