/** What the installed Firecracker says of itself, and whether this driver works with it. */

import { BangerError } from '../../core/errors.ts';
import type { CommandRunner } from '../../host/runner.ts';
import type { VmmProgram } from '../process.ts';
import { readVersionLine } from '../program-file.ts';

export const FIRECRACKER_PROGRAM = 'firecracker';

export const FIRECRACKER: VmmProgram = {
  title: 'Firecracker',
  installHint: 'https://github.com/firecracker-microvm/firecracker/releases has it as one static program',
};

/** For messages, beside `isUsable`. */
export const USABLE_VERSIONS = '1.10 or later, but not 1.16';

const VERSION_LINE = /^Firecracker v(\d{1,4}\.\d{1,4}\.\d{1,4})/;

/** e.g. `1.14.2`. @throws {BangerError} `dependency_missing`, `vmm_failed` (no Firecracker), `unsupported`, `cancelled` */
export async function inspectFirecracker(
  runner: CommandRunner,
  path: string,
  signal: AbortSignal,
): Promise<string> {
  const line = await readVersionLine(runner, FIRECRACKER, path, signal);
  const version = VERSION_LINE.exec(line)?.[1];
  if (version === undefined) {
    throw new BangerError('vmm_failed', `"${path} --version" names no version: ${line.slice(0, 200)}`);
  }
  assertUsable(version);
  return version;
}

/**
 * Before 1.8 it describes a guest's devices in a way that needs CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES, which Debian's kernels
 * have not (pull request 4428 of firecracker-microvm/firecracker brought ACPI). Before 1.10 a restored guest is not told
 * that its vsock connections have ended, and takes no others (4796). With 1.16 no connection reaches a guest any more that
 * was paused and went on (issue 6074).
 */
export function isUsable(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 1 || (major === 1 && minor >= 10 && minor !== 16);
}

/** @throws {BangerError} `unsupported` */
export function assertUsable(version: string): void {
  if (isUsable(version)) return;
  throw new BangerError('unsupported', `Firecracker ${version} cannot be used`, {
    hint: `Firecracker ${USABLE_VERSIONS}, is needed`,
  });
}
