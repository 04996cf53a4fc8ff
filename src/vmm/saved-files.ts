/** State and memory of a machine that is saved: both files appear whole, or neither does. */

import { rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileError, syncDir, temporaryPath } from '../host/files.ts';
import type { FrozenState, SaveOptions } from './driver.ts';

/** What a driver writes to. It names each file in `made` as soon as it is there: those are removed when it fails. */
export interface SavedFiles {
  readonly statePath: string;
  readonly memoryPath: string;
  readonly made: string[];
}

/** @throws {BangerError} `no_space`, `permission`, `io_error`; what `write` throws */
export async function publishSaved(
  { statePath, memoryPath, durable = true }: SaveOptions,
  write: (files: SavedFiles) => Promise<Omit<FrozenState, 'path'>>,
): Promise<FrozenState> {
  const made: string[] = [];
  try {
    const state = { final: statePath, temporary: temporaryPath(statePath) };
    const memory = { final: memoryPath, temporary: temporaryPath(memoryPath) };
    const written = await write({ statePath: state.temporary, memoryPath: memory.temporary, made });
    // The state last: where there is one, its memory is there too.
    for (const { temporary, final } of [memory, state]) {
      await rename(temporary, final);
      made.push(final);
    }
    if (durable) {
      for (const dir of new Set([statePath, memoryPath].map(dirname))) await syncDir(dir);
    }
    return { path: statePath, ...written };
  } catch (error) {
    for (const path of made) await unlink(path).catch(() => {});
    throw fileError(`cannot write ${statePath} and ${memoryPath}`, error);
  }
}
