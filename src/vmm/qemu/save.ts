/**
 * From a paused guest to files: QEMU sends everything in a migration, and goes on to be there. QEMU may not start programs
 * or open files for that (its sandbox), so it sends to a socket that we listen on, and the memory is taken out here.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { BangerError } from '../../core/errors.ts';
import type { FrozenState, SaveOptions } from '../driver.ts';
import { publishSaved, type SavedFiles } from '../saved-files.ts';
import { MAX_STATE_BYTES } from '../frozen-files.ts';
import { MEMORY_ID } from './config.ts';
import { MAX_CHUNK_BYTES, MemoryWriter } from './memory-writer.ts';
import { endMigration, migrate, runState } from './migration.ts';
import type { QmpClient } from './qmp.ts';
import { RamStreamSplitter } from './ram-stream.ts';
import { PAGE_BYTES } from './stream-bytes.ts';
import { StateReceiver } from './state-receiver.ts';
import { StateWriter, type WrittenState } from './state-writer.ts';

export interface SavePorts {
  readonly qmp: QmpClient;
  readonly memoryBytes: number;
  /** Where to listen for the stream; short enough for a socket. */
  readonly socketPath: string;
}

/** 512 MiB of which a seventh is in use take 0.2 s; a busy host, or a slow disk, takes longer. */
const SAVE_TIMEOUT_MS = 60_000;
const SAVE_TIMEOUT_MS_PER_MIB = 40;
const MIB = 1024 * 1024;
const PAGE_HEADER_BYTES = 8;

/** Contract: Machine.save. */
export async function save(ports: SavePorts, options: SaveOptions): Promise<FrozenState> {
  if (options.signal.aborted) throw cancelled();
  await assertPaused(ports.qmp);
  return await publishSaved(options, (files) => saveTo(files, ports, options));
}

/** @throws {BangerError} `invalid_state`, `vmm_failed`, `timeout` */
async function assertPaused(qmp: QmpClient): Promise<void> {
  const status = await runState(qmp);
  if (status === 'paused') return;
  if (status === 'postmigrate') {
    throw new BangerError(
      'invalid_state',
      'the machine has been saved since it was paused, or that was tried',
      {
        hint: 'it must go on and be paused again before it can be saved again',
      },
    );
  }
  throw new BangerError('invalid_state', `only a paused machine can be saved: QEMU says it is "${status}"`);
}

async function saveTo(
  { statePath, memoryPath, made }: SavedFiles,
  ports: SavePorts,
  options: SaveOptions,
): Promise<WrittenState> {
  await using stateFile = await open(statePath, 'wx', 0o600);
  made.push(statePath);
  await using memoryFile = await open(memoryPath, 'wx', 0o600);
  made.push(memoryPath);
  await memoryFile.truncate(ports.memoryBytes);
  const written = await transfer(stateFile, memoryFile, ports, options.signal);
  if (options.durable ?? true) await Promise.all([stateFile.sync(), memoryFile.sync()]);
  return written;
}

async function transfer(
  stateFile: FileHandle,
  memoryFile: FileHandle,
  ports: SavePorts,
  signal: AbortSignal,
): Promise<WrittenState> {
  const { qmp, memoryBytes, socketPath } = ports;
  const timeoutMs = SAVE_TIMEOUT_MS + Math.ceil(memoryBytes / MIB) * SAVE_TIMEOUT_MS_PER_MIB;
  const late = AbortSignal.timeout(timeoutMs);
  const failed = new AbortController();
  const over = AbortSignal.any([signal, late, failed.signal]);
  await using receiver = await StateReceiver.listen(socketPath, maxStreamBytes(memoryBytes));
  const receiving = receive(receiver, stateFile, memoryFile, memoryBytes, over);
  const migrating = migrate(qmp, `unix:${socketPath}`, over);
  try {
    const [written] = await Promise.all([receiving, migrating]);
    return written;
  } catch (error) {
    failed.abort();
    // The files are closed after this.
    await Promise.allSettled([receiving, migrating]);
    await endMigration(qmp);
    if (signal.aborted) throw cancelled();
    if (late.aborted) throw new BangerError('timeout', `QEMU did not send its state within ${timeoutMs} ms`);
    throw error;
  }
}

/** A guest that stands still has every page sent once. */
function maxStreamBytes(memoryBytes: number): number {
  return (memoryBytes / PAGE_BYTES) * (PAGE_BYTES + PAGE_HEADER_BYTES) + MAX_STATE_BYTES;
}

async function receive(
  receiver: StateReceiver,
  stateFile: FileHandle,
  memoryFile: FileHandle,
  memoryBytes: number,
  signal: AbortSignal,
): Promise<WrittenState> {
  const state = new StateWriter(stateFile);
  const memory = new MemoryWriter(memoryFile, memoryBytes);
  const splitter = new RamStreamSplitter(
    { name: MEMORY_ID, sizeBytes: memoryBytes },
    {
      state: (chunk, start, end) => state.write(chunk, start, end),
      memory: (position, chunk, start, end) => memory.write(position, chunk, start, end),
      zeroPage: (position) => memory.zeroPage(position),
    },
  );
  try {
    await receiver.receive(async (chunk) => {
      for (let at = 0; at < chunk.length; at += MAX_CHUNK_BYTES) {
        splitter.push(chunk.subarray(at, at + MAX_CHUNK_BYTES));
        await memory.settle();
        await state.settle();
      }
    }, signal);
    splitter.end();
    await memory.finish();
    return await state.finish();
  } finally {
    // Its file is closed next.
    await memory.idle();
  }
}

function cancelled(): BangerError {
  return new BangerError('cancelled', 'saving the machine was cancelled');
}
