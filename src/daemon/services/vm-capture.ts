/** One moment of a VM as files: its disks and, where it runs, its memory. The VM goes on as soon as they are copied. */

import { link } from 'node:fs/promises';
import { errorText } from '../../core/errors.ts';
import { frozenPaths } from '../../frozen/manifest.ts';
import { fileError } from '../../host/files.ts';
import type { Log } from '../../host/log.ts';
import { copyDisk } from '../../images/disk.ts';
import type { FrozenState } from '../../vmm/driver.ts';
import type { VmFiles } from '../vm-files.ts';
import type { LiveVm } from './live-vm.ts';
import { correctClock } from './vm-pause.ts';

const SYNC_TIMEOUT_MS = 60_000;

export interface CaptureOptions {
  readonly files: VmFiles;
  /** Existing and empty, on the file system of the VM's directory. Gets the files of `frozenPaths`, not made durable. */
  readonly into: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}

export interface Captured {
  /** Null when only the disks were copied. */
  readonly state: FrozenState | null;
  /** How long the guest stood still for it; 0 when it did anyway. */
  readonly pauseMs: number;
}

/** Of a VM that does not run: its disks are as it left them. @throws {BangerError} `no_space`, `io_error` */
export async function captureDisks({ files, into }: CaptureOptions): Promise<Captured> {
  await copyDisks(files, into);
  return { state: null, pauseMs: 0 };
}

/**
 * Of a VM that runs or is paused; it is as it was afterwards, also when this fails. Without memory the guest writes what it
 * has not yet written to its disks first.
 * @throws {BangerError} `vmm_failed`, `guest_failed`, `unsupported`, `no_space`, `io_error`, `timeout`, `cancelled`
 */
export async function captureLive(
  live: LiveVm,
  withMemory: boolean,
  options: CaptureOptions,
): Promise<Captured> {
  const { files, into, signal, log } = options;
  const { machine } = live;
  const stood = (await machine.runState()) === 'paused';
  if (!withMemory && !stood) await (await live.agent(signal)).sync(signal, SYNC_TIMEOUT_MS);
  if (withMemory && !stood) await machine.prepareSave(signal);
  const paths = frozenPaths(into);
  const began = performance.now();
  let pauseMs = 0;
  let state: FrozenState | null = null;
  try {
    await machine.pause();
    if (withMemory) {
      const { state: statePath, memory: memoryPath } = paths;
      state = await machine.save({ statePath, memoryPath, durable: false, signal });
    }
    await copyDisks(files, into);
  } finally {
    if (!stood) {
      await machine.resume();
      pauseMs = performance.now() - began;
      // It is only late by the pause: no reason to fail.
      await correctClock(live).catch((error: unknown) =>
        log.warn(
          { vm: live.id, reason: errorText(error) },
          "could not set the guest's clock after a snapshot",
        ),
      );
    }
  }
  return { state, pauseMs };
}

async function copyDisks(files: VmFiles, into: string): Promise<void> {
  const to = frozenPaths(into);
  await copyDisk(files.rootDisk, to.rootDisk);
  // Nobody writes to it once a VM has started: guests cannot, and the host puts another in its place.
  await linkFile(files.transferDisk, to.transferDisk);
}

/** The files of a captured moment as the disks of another VM, whose directory is there and has none. */
export async function placeDisks(from: string, files: VmFiles): Promise<void> {
  const paths = frozenPaths(from);
  await copyDisk(paths.rootDisk, files.rootDisk);
  await linkFile(paths.transferDisk, files.transferDisk);
}

async function linkFile(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    throw fileError(`cannot link ${from} to ${to}`, error);
  }
}
