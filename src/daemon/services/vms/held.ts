/**
 * A guest that was stood still for a moment, by us and not by the user: a mark beside its sockets, for as long as that
 * lasts. A daemon that finds it after one that was killed in between lets the guest go on.
 */

import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../../../host/files.ts';
import type { VmFiles } from '../../vm-files.ts';

const MARK = 'held';

/** @throws {BangerError} `no_space`, `io_error` */
export async function markHeld(files: VmFiles): Promise<void> {
  const path = markOf(files);
  await writeFile(path, '', { mode: 0o600 }).catch((error: unknown) => {
    throw fileError(`cannot write ${path}`, error);
  });
}

/** Of a machine that stands still. */
export function isHeld(files: VmFiles): boolean {
  return existsSync(markOf(files));
}

/** From now on it stands still because somebody wants it to, or goes on. */
export async function unmarkHeld(files: VmFiles): Promise<void> {
  await rm(markOf(files), { force: true });
}

function markOf({ socketDir }: VmFiles): string {
  return join(socketDir, MARK);
}
