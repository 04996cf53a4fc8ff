/** What is checked of a frozen machine's files before a VMM is given them. */

import { createHash } from 'node:crypto';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import type { FrozenState } from './driver.ts';
import { type MachineShape, shapeDifferences } from './shape.ts';

/** A state without memory has 256 to 512 KiB; what a VMM that a guest took over writes may have no end. */
export const MAX_STATE_BYTES = 64 * 1024 * 1024;

const MIB = 1024 * 1024;

/** @throws {BangerError} `unsupported`, with everything that differs */
export function assertSameShape(then: MachineShape, now: MachineShape): void {
  const differences = shapeDifferences(then, now);
  if (differences.length === 0) return;
  throw new BangerError('unsupported', `the frozen machine was another one: ${differences.join('; ')}`);
}

/**
 * A private mapping of a file that is too short kills the guest at its first touch beyond the end.
 * @throws {BangerError} `verify_failed`
 */
export async function checkMemoryFile(path: string, memoryMib: number): Promise<void> {
  const size = await stat(path).then(
    (stats) => stats.size,
    (cause: unknown) => {
      throw new BangerError('verify_failed', `the frozen memory ${path} cannot be read`, { cause });
    },
  );
  if (size === memoryMib * MIB) return;
  throw new BangerError(
    'verify_failed',
    `the frozen memory ${path} has ${size} bytes, not ${memoryMib * MIB}`,
  );
}

/**
 * The state, opened at its beginning and known to be what was frozen. VMMs check little (of 40 states with one flipped bit
 * QEMU loaded 39, and one of their guests never answered; of 40 cut off anywhere it loaded 4), or trust what they load.
 * @throws {BangerError} `verify_failed`, `io_error`
 */
export async function openVerified(state: FrozenState): Promise<FileHandle> {
  const file = await open(state.path, 'r').catch((cause: unknown) => {
    throw new BangerError('verify_failed', `the frozen state ${state.path} cannot be opened`, { cause });
  });
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size !== state.sizeBytes || stats.size > MAX_STATE_BYTES) {
      const sizes = `${stats.size} bytes, not ${state.sizeBytes}`;
      throw new BangerError('verify_failed', `the frozen state ${state.path} has ${sizes}`);
    }
    // With positions: the descriptor that a VMM inherits stays at the beginning.
    const { buffer, bytesRead } = await file.read(Buffer.alloc(stats.size), 0, stats.size, 0);
    const sha256 = createHash('sha256').update(buffer.subarray(0, bytesRead)).digest('hex');
    if (sha256 === state.sha256) return file;
    throw new BangerError('verify_failed', `the frozen state ${state.path} is not what was written`, {
      hint: `its SHA-256 is ${sha256}, and was ${state.sha256}`,
    });
  } catch (error) {
    await file.close();
    throw fileError(`cannot read the frozen state ${state.path}`, error);
  }
}
