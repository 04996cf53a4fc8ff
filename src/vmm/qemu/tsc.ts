/** The rate of the host's time stamp counter, which an emulated microvm cannot measure and must be told. */

import { z } from 'zod';
import { BangerError, errorText } from '../../core/errors.ts';
import { readJsonFile, writeFileAtomic } from '../../host/files.ts';
import type { Log } from '../../host/log.ts';
import { hostBootId } from '../../host/proc.ts';
import type { CommandRunner } from '../../host/runner.ts';

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 4096;
/** Slower and faster than any x86 processor that runs this. */
const MIN_KHZ = 100_000;
const MAX_KHZ = 10_000_000;
/** Two measurements of one counter differ by less; a guest does not notice the difference. */
const SAME_WITHIN = 1 / 5000;

const keptSchema = z.strictObject({ hostBootId: z.string().max(64), khz: z.int().min(MIN_KHZ).max(MAX_KHZ) });

/**
 * As readTscKhz, but the same number each time: it is measured once per start of the host, and a number that means the same
 * counter as the one in `file` is replaced by that. Frozen machines were started with it, and are found by it.
 */
export async function steadyTscKhz(
  runner: CommandRunner,
  toolPath: string,
  file: string,
  log: Log,
): Promise<number | undefined> {
  const kept = keptSchema.safeParse(await readJsonFile(file, MAX_OUTPUT_BYTES).catch(() => undefined)).data;
  const bootId = hostBootId();
  if (kept?.hostBootId === bootId) return kept.khz;
  const measured = await readTscKhz(runner, toolPath, log);
  if (measured === undefined) return undefined;
  const isSame = kept !== undefined && Math.abs(kept.khz - measured) < measured * SAME_WITHIN;
  const khz = isSame ? kept.khz : measured;
  const text = `${JSON.stringify({ hostBootId: bootId, khz })}\n`;
  await writeFileAtomic(file, text, { durable: false }).catch((error: unknown) => {
    log.warn({ file, reason: errorText(error) }, 'could not keep the TSC rate');
  });
  return khz;
}

/**
 * Asks the tool at `toolPath`, which prints the exact rate in kHz and fails where there is no telling.
 * Undefined when the rate is not known exactly: then a guest must not depend on it.
 */
export async function readTscKhz(
  runner: CommandRunner,
  toolPath: string,
  log: Log,
): Promise<number | undefined> {
  try {
    const { stdout } = await runner.run([toolPath], {
      timeoutMs: TIMEOUT_MS,
      maxOutputBytes: MAX_OUTPUT_BYTES,
    });
    const text = stdout.toString('latin1').trim();
    const khz = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (khz >= MIN_KHZ && khz <= MAX_KHZ) return khz;
    log.warn({ tool: toolPath, output: text.slice(0, 200) }, 'not a TSC rate');
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    log.info({ tool: toolPath, reason: errorText(error) }, 'the TSC rate is not known exactly');
  }
  return undefined;
}
