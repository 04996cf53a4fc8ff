/** One moment of a VM as files: its disks and, where it runs, its memory. The VM goes on as soon as they are copied. */

import { link, open, stat } from 'node:fs/promises';
import { BangerError, errorText } from '../../../core/errors.ts';
import { isOnTransferDisk, type VmWorkspace } from '../../../core/model/workspace.ts';
import { frozenPaths } from '../../../frozen/manifest.ts';
import { fileError } from '../../../host/files.ts';
import type { Log } from '../../../host/log.ts';
import { copyDisk } from '../../../images/disk.ts';
import type { FrozenState } from '../../../vmm/driver.ts';
import { copyShippedFiles } from '../../shipped-files.ts';
import type { VmFiles } from '../../vm-files.ts';
import { markHeld, unmarkHeld } from '../vms/held.ts';
import type { LiveVm } from '../vms/live-vm.ts';
import { correctClock } from '../guests/guest-clock.ts';

const SYNC_TIMEOUT_MS = 60_000;
/** A guest that is up answers within milliseconds. */
const PREPARE_TIMEOUT_MS = 2000;

export interface CaptureOptions {
  readonly vmName: string;
  readonly files: VmFiles;
  /** What the VM's row says now. */
  readonly workspace: () => VmWorkspace | null;
  /** Existing and empty, on the file system of the VM's directory. Gets the files of `frozenPaths` and of shipped-files.ts, not made durable. */
  readonly into: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}

export interface Captured {
  /** Null when only the disks were copied. */
  readonly state: FrozenState | null;
  /** How long the guest stood still for it; 0 when it did anyway. */
  readonly pauseMs: number;
  /** As it was when the disks were. */
  readonly workspace: VmWorkspace | null;
}

type CapturedFiles = Omit<Captured, 'pauseMs'>;

/** Of a VM that does not run: its disks are as it left them. @throws {BangerError} `no_space`, `io_error`, `cancelled` */
export async function captureDisks(options: CaptureOptions): Promise<Captured> {
  return { state: null, pauseMs: 0, workspace: await copyDisks(options) };
}

/**
 * Of a VM that runs or is paused; it is as it was afterwards, also when this fails. Without memory the guest writes what it
 * has not yet written to its disks first, if it runs.
 * @throws {BangerError} `vmm_failed`, `guest_failed`, `unsupported`, `no_space`, `io_error`, `timeout`, `cancelled`,
 *   `invalid_state` (the user has paused it, and its memory was saved since)
 */
export async function captureLive(
  live: LiveVm,
  withMemory: boolean,
  options: CaptureOptions,
): Promise<Captured> {
  const { files, signal } = options;
  const stood = (await live.machine.runState()) === 'paused';
  if (!withMemory && !stood) await (await live.agent(signal)).sync(signal, SYNC_TIMEOUT_MS);
  if (withMemory && !stood) await prepare(live, options);
  if (stood) return { ...(await copyStanding(live, withMemory, options)), pauseMs: 0 };
  await markHeld(files);
  const began = performance.now();
  let captured: CapturedFiles;
  try {
    await live.machine.pause();
    captured = await copyStanding(live, withMemory, options);
  } catch (error) {
    // What went wrong first is the reason.
    await letGoOn(live, options).catch((again: unknown) =>
      options.log.error({ vm: live.id, reason: errorText(again) }, 'a VM stands still after a failed copy'),
    );
    throw error;
  }
  await letGoOn(live, options);
  const pauseMs = performance.now() - began;
  // It is only late by the pause: no reason to fail.
  await correctClock(live).catch((error: unknown) =>
    options.log.warn({ vm: live.id, reason: errorText(error) }, "could not set a copied guest's clock"),
  );
  return { ...captured, pauseMs };
}

/** What makes the pause, and the starts of copies, shorter. A guest that does not answer can be copied all the same. */
async function prepare(live: LiveVm, { signal, log }: CaptureOptions): Promise<void> {
  const agentMay = AbortSignal.any([signal, AbortSignal.timeout(PREPARE_TIMEOUT_MS)]);
  await Promise.all([
    live.machine.prepareSave(signal),
    live
      .agent(agentMay)
      .then((agent) => agent.prepareCopies(agentMay))
      .catch((error: unknown) =>
        log.info({ vm: live.id, reason: errorText(error) }, 'a guest is copied unprepared'),
      ),
  ]);
}

async function letGoOn(live: LiveVm, { vmName, files }: CaptureOptions): Promise<void> {
  try {
    await live.machine.resume();
  } catch (cause) {
    const message = `VM "${vmName}" was copied, but does not go on: ${errorText(cause)}`;
    throw new BangerError('vmm_failed', message, { hint: `banger vm resume ${vmName}`, cause });
  }
  await unmarkHeld(files);
}

async function copyStanding(
  live: LiveVm,
  withMemory: boolean,
  options: CaptureOptions,
): Promise<CapturedFiles> {
  const { log } = options;
  const began = performance.now();
  const state = withMemory ? await saveMemory(live, options) : null;
  const saved = performance.now();
  const workspace = await copyDisks(options);
  const saveMs = Math.round(saved - began);
  log.info({ vm: live.id, saveMs, copyMs: Math.round(performance.now() - saved) }, 'copied');
  return { state, workspace };
}

async function saveMemory(live: LiveVm, { vmName, into, signal }: CaptureOptions): Promise<FrozenState> {
  const { state: statePath, memory: memoryPath } = frozenPaths(into);
  try {
    return await live.machine.save({ statePath, memoryPath, durable: false, signal });
  } catch (cause) {
    if (!(cause instanceof BangerError) || cause.code !== 'invalid_state') throw cause;
    throw new BangerError('invalid_state', `the memory of VM "${vmName}" was copied since it was paused`, {
      hint: `banger vm resume ${vmName}; it can be copied as it runs, or once more when it is paused again`,
      cause,
    });
  }
}

/**
 * While the guest stands still: a first copy is written to its disk before the row tells of it, and is mounted after that. One
 * that is being written now is no part of this moment.
 */
async function copyDisks({ files, into, signal, ...row }: CaptureOptions): Promise<VmWorkspace | null> {
  const workspace = row.workspace();
  const to = frozenPaths(into);
  await copyDisk(files.rootDisk, to.rootDisk, signal);
  await copyTransferDisk(files.transferDisk, to.transferDisk, workspace);
  await copyShippedFiles(files.dir, into);
  return workspace;
}

/** The files of a captured moment as the disks of another VM, whose directory is there and has none. */
export async function placeDisks(
  { dir, workspace }: { readonly dir: string; readonly workspace: VmWorkspace | null },
  to: Pick<VmFiles, 'rootDisk' | 'transferDisk'>,
  signal: AbortSignal,
): Promise<void> {
  const paths = frozenPaths(dir);
  await copyDisk(paths.rootDisk, to.rootDisk, signal);
  await copyTransferDisk(paths.transferDisk, to.transferDisk, workspace);
}

/** Nobody writes to it once it has another name, so one that still waits for a workspace gets none, whatever is on it. */
async function copyTransferDisk(from: string, to: string, workspace: VmWorkspace | null): Promise<void> {
  if (isOnTransferDisk(workspace)) return await linkFile(from, to);
  const { size } = await stat(from);
  await using file = await open(to, 'wx', 0o600);
  await file.truncate(size);
}

async function linkFile(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    throw fileError(`cannot link ${from} to ${to}`, error);
  }
}
