/** A directory for the git objects and indexes of one look at a repository. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, makeTemporaryDir, removeTree } from '../../../host/files.ts';
import type { CommandRunner } from '../../../host/runner.ts';

export interface UpdateDeps {
  readonly runner: CommandRunner;
  readonly scratchDir: string;
}

/** @throws {BangerError} what `work` throws, and what the file system does */
export async function withScratch<T>(deps: UpdateDeps, work: (scratch: string) => Promise<T>): Promise<T> {
  await mkdir(deps.scratchDir, { recursive: true, mode: 0o700 });
  const scratch = await makeTemporaryDir(join(deps.scratchDir, 'workspace')).catch((error: unknown) => {
    throw fileError(`cannot use ${deps.scratchDir}`, error);
  });
  try {
    return await work(scratch);
  } finally {
    await removeTree(scratch, { below: deps.scratchDir });
  }
}
