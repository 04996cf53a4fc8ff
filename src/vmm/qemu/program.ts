/** What the installed QEMU says of itself. */

import { realpath, stat } from 'node:fs/promises';
import { BangerError, errorText } from '../../core/errors.ts';
import { findProgram } from '../../host/find-program.ts';
import type { CommandRunner } from '../../host/runner.ts';
import { isMachineType, type QemuMachineType } from './config.ts';

export interface QemuProgram {
  /** e.g. `7.2.22`. */
  readonly version: string;
  /** Those of ours that this build has. */
  readonly machines: ReadonlySet<QemuMachineType>;
}

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 256 * 1024;

/** @throws {BangerError} `dependency_missing`, `vmm_failed` (it runs, but is no QEMU we understand), `cancelled` */
export async function inspectQemu(
  runner: CommandRunner,
  qemuPath: string,
  signal: AbortSignal,
): Promise<QemuProgram> {
  const versionText = await ask(runner, [qemuPath, '--version'], signal);
  const version = /\bversion (\d+\.\d+(?:\.\d+)?)/.exec(versionText)?.[1];
  if (version === undefined) {
    throw new BangerError(
      'vmm_failed',
      `"${qemuPath} --version" names no version: ${versionText.slice(0, 200)}`,
    );
  }
  const machinesText = await ask(runner, [qemuPath, '-M', 'help'], signal);
  const names = machinesText.split('\n').map((line) => line.split(' ', 1)[0] ?? '');
  return { version, machines: new Set(names.filter(isMachineType)) };
}

/** Which file would be run: cheap, so that a program that was replaced is noticed. @throws {BangerError} `dependency_missing` */
export async function identifyFile(qemuPath: string): Promise<string> {
  try {
    const path = await realpath(await findProgram(qemuPath));
    const { size, mtimeNs } = await stat(path, { bigint: true });
    return `${path}, ${size} bytes, of ${mtimeNs}`;
  } catch (cause) {
    throw notInstalled(cause);
  }
}

/** @throws {BangerError} as `inspectQemu` */
export async function readVersionLine(
  runner: CommandRunner,
  qemuPath: string,
  signal: AbortSignal,
): Promise<string> {
  const text = await ask(runner, [qemuPath, '--version'], signal);
  return text.split('\n', 1)[0]?.slice(0, 500) ?? '';
}

async function ask(
  runner: CommandRunner,
  argv: readonly [string, ...string[]],
  signal: AbortSignal,
): Promise<string> {
  const options = { signal, timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
  try {
    const { stdout } = await runner.run(argv, options);
    return stdout.toString('utf8');
  } catch (cause) {
    if (!(cause instanceof BangerError) || cause.code === 'cancelled') throw cause;
    if (cause.code === 'dependency_missing') {
      throw notInstalled(cause);
    }
    throw new BangerError('vmm_failed', errorText(cause), { cause });
  }
}

function notInstalled(cause: unknown): BangerError {
  return new BangerError('dependency_missing', 'QEMU is not installed', {
    hint: 'apt install qemu-system-x86',
    cause,
  });
}
