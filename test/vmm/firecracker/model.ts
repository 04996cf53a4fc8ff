/** The model of Firecracker as a program that can be started. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Writes the program into the directory. @returns its path */
export async function installModel(dir: string): Promise<string> {
  const path = join(dir, 'firecracker');
  const program = join(import.meta.dirname, 'fake-firecracker.ts');
  await writeFile(path, `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`, { mode: 0o700 });
  return path;
}
