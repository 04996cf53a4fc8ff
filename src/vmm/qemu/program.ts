/** What the installed QEMU says of itself. */

import { BangerError } from '../../core/errors.ts';
import type { CommandRunner } from '../../host/runner.ts';
import type { VmmProgram } from '../process.ts';
import { askProgram } from '../program-file.ts';
import { isMachineType, type QemuMachineType } from './config.ts';

export interface QemuProgram {
  /** e.g. `7.2.22`. */
  readonly version: string;
  /** Those of ours that this build has. */
  readonly machines: ReadonlySet<QemuMachineType>;
}

export const QEMU: VmmProgram = { title: 'QEMU', installHint: 'apt install qemu-system-x86' };

/** @throws {BangerError} `dependency_missing`, `vmm_failed` (it runs, but is no QEMU we understand), `cancelled` */
export async function inspectQemu(
  runner: CommandRunner,
  qemuPath: string,
  signal: AbortSignal,
): Promise<QemuProgram> {
  const versionText = await askProgram(runner, QEMU, [qemuPath, '--version'], signal);
  const version = /\bversion (\d+\.\d+(?:\.\d+)?)/.exec(versionText)?.[1];
  if (version === undefined) {
    throw new BangerError(
      'vmm_failed',
      `"${qemuPath} --version" names no version: ${versionText.slice(0, 200)}`,
    );
  }
  const machinesText = await askProgram(runner, QEMU, [qemuPath, '-M', 'help'], signal);
  const names = machinesText.split('\n').map((line) => line.split(' ', 1)[0] ?? '');
  return { version, machines: new Set(names.filter(isMachineType)) };
}
