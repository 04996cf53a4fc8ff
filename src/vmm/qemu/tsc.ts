/** The rate of the host's time stamp counter, which an emulated microvm cannot measure and must be told. */

import { BangerError, errorText } from '../../core/errors.ts';
import type { Log } from '../../host/log.ts';
import type { CommandRunner } from '../../host/runner.ts';

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 4096;
/** Slower and faster than any x86 processor that runs this. */
const MIN_KHZ = 100_000;
const MAX_KHZ = 10_000_000;

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
