/** From a paused guest to files. Firecracker writes them itself, under names of ours; they count once they are checked. */

import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { BangerError } from '../../core/errors.ts';
import type { FrozenState, SaveOptions } from '../driver.ts';
import { publishSaved, type SavedFiles } from '../saved-files.ts';
import { MAX_STATE_BYTES } from '../frozen-files.ts';
import type { ApiLimits, ApiRequest } from './api.ts';

export interface SavePorts {
  readonly call: (request: ApiRequest, limits?: ApiLimits) => Promise<unknown>;
  /** Told right before Firecracker is. */
  readonly onCreate: () => void;
}

/** It writes all of the memory, zeros too. */
const SAVE_TIMEOUT_MS = 60_000;
const SAVE_TIMEOUT_MS_PER_MIB = 40;
const MIB = 1024 * 1024;
const MAX_MEMORY_MIB = 64 * 1024 * 1024;
/** What Rust's standard library says of ENOSPC. */
const NO_SPACE = /\(os error 28\)/;

/** Definition MachineConfiguration, as far as it matters here. */
const machineSchema = z.object({ mem_size_mib: z.int().min(1).max(MAX_MEMORY_MIB) });

interface Written {
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** Of a machine that is known to be paused. Contract: Machine.save. */
export async function save(ports: SavePorts, options: SaveOptions): Promise<FrozenState> {
  return await publishSaved(options, (files) => saveTo(files, ports, options));
}

async function saveTo(
  { statePath, memoryPath, made }: SavedFiles,
  ports: SavePorts,
  { durable = true, signal }: SaveOptions,
): Promise<Written> {
  const machine = machineSchema.safeParse(await ports.call({ method: 'GET', path: '/machine-config' }));
  if (!machine.success)
    throw new BangerError('vmm_failed', 'Firecracker does not say how much memory it has');
  const { mem_size_mib: memoryMib } = machine.data;
  // Made here, so that nobody else can ever read them: Firecracker writes into what is there.
  await using stateFile = await open(statePath, 'wx+', 0o600);
  made.push(statePath);
  await using memoryFile = await open(memoryPath, 'wx', 0o600);
  made.push(memoryPath);
  await create(ports, statePath, memoryPath, memoryMib);
  // It cannot be interrupted, and must not write to what has been given up.
  if (signal.aborted) throw new BangerError('cancelled', 'saving the machine was cancelled');
  await checkMemory(memoryFile, memoryMib);
  const written = await digestState(stateFile);
  if (durable) await Promise.all([stateFile.sync(), memoryFile.sync()]);
  return written;
}

async function create(
  { call, onCreate }: SavePorts,
  statePath: string,
  memoryPath: string,
  memoryMib: number,
): Promise<void> {
  const body = { snapshot_type: 'Full', snapshot_path: statePath, mem_file_path: memoryPath };
  const timeoutMs = SAVE_TIMEOUT_MS + memoryMib * SAVE_TIMEOUT_MS_PER_MIB;
  onCreate();
  try {
    await call({ method: 'PUT', path: '/snapshot/create', body }, { timeoutMs });
  } catch (cause) {
    if (!(cause instanceof BangerError) || !NO_SPACE.test(cause.message)) throw cause;
    throw new BangerError('no_space', `there is no space for ${memoryMib} MiB of memory`, { cause });
  }
}

async function checkMemory(file: FileHandle, memoryMib: number): Promise<void> {
  const { size } = await file.stat();
  if (size === memoryMib * MIB) return;
  const code = size > memoryMib * MIB ? 'limit_exceeded' : 'vmm_failed';
  throw new BangerError(code, `Firecracker wrote ${size} bytes of memory, not ${memoryMib * MIB}`);
}

async function digestState(file: FileHandle): Promise<Written> {
  const { size } = await file.stat();
  if (size > MAX_STATE_BYTES) {
    throw new BangerError('limit_exceeded', `the state is larger than ${MAX_STATE_BYTES} bytes`);
  }
  if (size === 0) throw new BangerError('vmm_failed', 'Firecracker wrote no state');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
  if (bytesRead !== size) throw new BangerError('vmm_failed', 'the state became shorter as it was read');
  return { sizeBytes: size, sha256: createHash('sha256').update(buffer).digest('hex') };
}
