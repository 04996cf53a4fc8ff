/** What is checked before a frozen machine is restored, and how QEMU is led from its state to a running guest. */

import { createHash } from 'node:crypto';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import { fileError } from '../../host/files.ts';
import type { FrozenState, MachineSpec, RestoreOptions } from '../driver.ts';
import { type MachineShape, shapeDifferences } from '../shape.ts';
import { loadState } from './migration.ts';
import { INHERITED_FD } from './process.ts';
import type { QmpClient } from './qmp.ts';
import { MAX_STATE_BYTES } from './state-writer.ts';

/** What a restored machine's command line has beside a new one's: it waits for a state instead of booting. */
export const INCOMING_ARGV: readonly string[] = ['-incoming', 'defer'];

/** Loading takes some 10 ms of CPU time; with many at once on a busy host each waits for the others. */
export const RESTORE_TIMEOUT_MS = 30_000;

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
 * The state, opened at its beginning and known to be what was frozen. QEMU checks almost nothing: of 40 states with one
 * flipped bit it refused one, loaded 39, and one of their guests never answered; of 40 cut off anywhere it loaded 4.
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
    // With positions: the descriptor that QEMU inherits stays at the beginning.
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

/**
 * Loads the state that QEMU inherited, tells it of disks that have grown, and lets the guest go on.
 * @throws {BangerError} `vmm_failed`; the signal's reason
 */
export async function goOn(
  qmp: QmpClient,
  spec: MachineSpec,
  { grownDisks = [], beforeRun }: Pick<RestoreOptions, 'grownDisks' | 'beforeRun'>,
  signal: AbortSignal,
): Promise<void> {
  await loadState(qmp, INHERITED_FD, signal);
  for (const { id, sizeBytes } of grownDisks) {
    const index = spec.disks.findIndex((disk) => disk.id === id);
    // Also where the file has that size already: this is what tells the guest.
    await qmp.execute('block_resize', { 'node-name': `disk${index}`, size: sizeBytes });
  }
  signal.throwIfAborted();
  await beforeRun?.();
  await qmp.execute('cont');
}
