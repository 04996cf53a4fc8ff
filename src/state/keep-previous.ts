/** Keeping the database that a restore replaces. */

import { constants } from 'node:fs';
import { copyFile, open, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { now } from '../host/clock.ts';
import { fileError, syncDir } from '../host/files.ts';
import { keptFiles, type RestorePlan } from './restore-plan.ts';
import { databaseFiles, identityOf } from './target-files.ts';

/** A name beside the database that nothing has yet, alone or with a suffix. */
export function freeKeptName(dbPath: string): string {
  const base = `${basename(dbPath)}.pre-restore-${now().replaceAll(/[-:]|\.\d+/g, '')}`;
  for (let attempt = 1; attempt < 1000; attempt += 1) {
    const name = attempt === 1 ? base : `${base}-${attempt}`;
    const path = join(dirname(dbPath), name);
    if (databaseFiles(path).every((file) => identityOf(file) === undefined)) return name;
  }
  throw new BangerError('already_exists', `${base}, and 999 names like it, are taken`);
}

/** Does what the plan says: a verified, durable copy, or renames. The old database is folded where it could be. */
export async function keepPrevious(dbPath: string, plan: RestorePlan): Promise<void> {
  for (const { from, to } of keptFiles(dbPath, plan)) {
    try {
      if (plan.mode === 'copy') await copyDurably(from, to);
      else await rename(from, to);
    } catch (error) {
      throw fileError(`cannot keep ${from} as ${to}`, error);
    }
  }
  if (plan.mode !== 'nothing') await syncDir(dirname(dbPath));
}

async function copyDurably(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  await using file = await open(to, constants.O_RDWR | constants.O_NOFOLLOW);
  await file.chmod(0o600);
  await file.sync();
  if (!(await isSameContent(from, to))) {
    throw new BangerError('io_error', `${to} is not what ${from} is`, { hint: 'nothing was replaced' });
  }
}

const READ_BYTES = 1024 * 1024;

async function isSameContent(one: string, other: string): Promise<boolean> {
  await using first = await open(one, constants.O_RDONLY | constants.O_NOFOLLOW);
  await using second = await open(other, constants.O_RDONLY | constants.O_NOFOLLOW);
  if ((await first.stat()).size !== (await second.stat()).size) return false;
  const buffers = [Buffer.alloc(READ_BYTES), Buffer.alloc(READ_BYTES)] as const;
  for (let position = 0; ; ) {
    const length = (await first.read(buffers[0], 0, READ_BYTES, position)).bytesRead;
    if (length === 0) return true;
    for (let done = 0; done < length; ) {
      const { bytesRead } = await second.read(buffers[1], done, length - done, position + done);
      if (bytesRead === 0) return false;
      done += bytesRead;
    }
    if (!buffers[0].subarray(0, length).equals(buffers[1].subarray(0, length))) return false;
    position += length;
  }
}
