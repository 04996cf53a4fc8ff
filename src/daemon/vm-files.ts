/**
 * Where a VM's files lie, and its handles file.
 *
 *   <state>/vms/<id>/      vm.json (vm-record-file.ts), root.qcow2, transfer.img, shipped*.* (shipped-files.ts), handles.json, machine.json,
 *                          console.log, vmm.log, ssh_host_ed25519_key{,.pub} (services/guests/ssh-service.ts)
 *   <runtime>/vm/<id12>/   sockets
 */

import { mkdir, open, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { allocatedBytes } from '../frozen/manifest.ts';
import { readJsonFile, writeFileAtomic } from '../host/files.ts';
import { type BangerPaths, vmRuntimeDir } from '../host/paths.ts';
import type { MachineHandles } from '../vmm/driver.ts';
import type { ShippedFiles } from '../workspace/shipped-record.ts';
import { shippedFilesIn } from './shipped-files.ts';

export interface VmFiles extends ShippedFiles {
  readonly dir: string;
  readonly socketDir: string;
  /** `root.qcow2`, also for a driver that has raw disks: services/vms/driver-limits.ts, diskFormatOf. */
  readonly rootDisk: string;
  readonly transferDisk: string;
  readonly handlesFile: string;
  /** What the machine that runs was started as: services/vms/machine-facts.ts. */
  readonly machineFile: string;
  /** The memory of a VM in state `saved`: services/vms/saved-memory.ts. */
  readonly savedDir: string;
  readonly consoleLog: string;
  readonly vmmLog: string;
}

/** Size of the sparse disk a workspace image is written into while the guest boots; costs nothing until written. */
export const TRANSFER_DISK_BYTES = 64 * 1024 ** 3;
const HANDLES_FILE_MAX_BYTES = 256 * 1024;
/** A guest can print for ever; its console may not fill the host's disk. */
const LOG_MAX_BYTES = 64 * 1024 * 1024;

export function vmFiles(paths: BangerPaths, id: string): VmFiles {
  return machineFiles(join(paths.vmsDir, id), vmRuntimeDir(paths, id));
}

/** For a machine that is no VM yet, too. */
export function machineFiles(dir: string, socketDir: string): VmFiles {
  return {
    dir,
    socketDir,
    rootDisk: join(dir, 'root.qcow2'),
    transferDisk: join(dir, 'transfer.img'),
    handlesFile: join(dir, 'handles.json'),
    machineFile: join(dir, 'machine.json'),
    savedDir: join(dir, 'saved'),
    ...shippedFilesIn(dir),
    consoleLog: join(dir, 'console.log'),
    vmmLog: join(dir, 'vmm.log'),
  };
}

const handlesSchema = z.object({
  driver: z.enum(['qemu', 'firecracker']),
  pid: z.number().int().positive(),
  pidStartTicks: z.number().int().nonnegative(),
  hostBootId: z.string().max(64),
  controlSocketPath: z.string().max(107),
  channelSocketPath: z.string().max(107),
  argv: z.array(z.string()).max(1024),
});

/** On disk before anything else learns of the process; not fsynced, since the process does not survive the host either. */
export async function writeHandles(files: VmFiles, handles: MachineHandles): Promise<void> {
  await writeFileAtomic(files.handlesFile, `${JSON.stringify(handles)}\n`, { mode: 0o600, durable: false });
}

/** Undefined when there are none, or none that can be read: then there is no process to find. */
export async function readHandles(files: VmFiles): Promise<MachineHandles | undefined> {
  try {
    return handlesSchema.parse(await readJsonFile(files.handlesFile, HANDLES_FILE_MAX_BYTES));
  } catch {
    return undefined;
  }
}

export async function removeHandles(files: VmFiles): Promise<void> {
  await rm(files.handlesFile, { force: true });
}

export async function makeSocketDir(files: VmFiles): Promise<void> {
  await mkdir(files.socketDir, { recursive: true, mode: 0o700 });
}

export async function removeSocketDir(files: VmFiles): Promise<void> {
  await rm(files.socketDir, { recursive: true, force: true });
}

/** It must not exist. */
export async function makeTransferDisk({ transferDisk }: VmFiles): Promise<void> {
  await (await open(transferDisk, 'wx', 0o600)).close();
  await truncate(transferDisk, TRANSFER_DISK_BYTES);
}

/** Bytes the VM's own disks, and its memory while it is saved, occupy on the host (blocks, not virtual size). */
export async function diskUsage(files: VmFiles): Promise<number> {
  let total = await allocatedBytes(files.savedDir);
  for (const path of [files.rootDisk, files.transferDisk]) {
    const found = await stat(path).catch(() => undefined);
    total += (found?.blocks ?? 0) * 512;
  }
  return total;
}

/** Empties a log that has grown past its limit; its writer appends, so it goes on at the new end. */
export async function capLog(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined && found.size > LOG_MAX_BYTES) await truncate(path, 0);
}
