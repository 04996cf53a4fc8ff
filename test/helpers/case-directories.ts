/** A new directory for each test of a file. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach } from 'node:test';

/** @param enter gets the directory before each test; it is removed after the last one */
export function caseDirectories(name: string, enter: (dir: string) => Promise<void> | void): void {
  const made: string[] = [];
  beforeEach(async () => {
    const dir = await mkdtemp(join(tmpdir(), `${name}-`));
    made.push(dir);
    await enter(dir);
  });
  after(async () => {
    for (const dir of made) await rm(dir, { recursive: true, force: true });
  });
}
