/** What is known of a VMM's program without a machine: its file, and what it prints. */

import { realpath, stat } from 'node:fs/promises';
import { BangerError, errorText } from '../core/errors.ts';
import { findProgram } from '../host/find-program.ts';
import type { CommandRunner } from '../host/runner.ts';
import type { VmmProgram } from './process.ts';

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 256 * 1024;

/** Which file would be run: cheap, so that a program that was replaced is noticed. @throws {BangerError} `dependency_missing` */
export async function identifyFile(program: VmmProgram, name: string): Promise<string> {
  try {
    const path = await realpath(await findProgram(name));
    const { size, mtimeNs } = await stat(path, { bigint: true });
    return `${path}, ${size} bytes, of ${mtimeNs}`;
  } catch (cause) {
    throw notInstalled(program, cause);
  }
}

/** The first line of what it says of its version. @throws {BangerError} as `askProgram` */
export async function readVersionLine(
  runner: CommandRunner,
  program: VmmProgram,
  name: string,
  signal: AbortSignal,
): Promise<string> {
  const text = await askProgram(runner, program, [name, '--version'], signal);
  return text.split('\n', 1)[0]?.slice(0, 500) ?? '';
}

/** What it prints. @throws {BangerError} `dependency_missing`, `vmm_failed` (it fails), `cancelled` */
export async function askProgram(
  runner: CommandRunner,
  program: VmmProgram,
  argv: readonly [string, ...string[]],
  signal: AbortSignal,
): Promise<string> {
  const options = { signal, timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
  try {
    const { stdout } = await runner.run(argv, options);
    return stdout.toString('utf8');
  } catch (cause) {
    if (!(cause instanceof BangerError) || cause.code === 'cancelled') throw cause;
    if (cause.code === 'dependency_missing') throw notInstalled(program, cause);
    throw new BangerError('vmm_failed', errorText(cause), { cause });
  }
}

function notInstalled({ title, installHint }: VmmProgram, cause: unknown): BangerError {
  return new BangerError('dependency_missing', `${title} is not installed`, { hint: installHint, cause });
}
