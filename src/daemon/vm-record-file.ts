/**
 * `vms/<id>/vm.json`: what a VM's row says for good, beside the disks it is about, so that a lost or broken state
 * database loses no VM: `banger state rebuild` reads these files.
 *
 * The row is the truth and the file its copy, written after it: a crash between the two leaves a row without a file or
 * with an old one, and the next daemon writes it again. The other order would leave a file that promises what the row
 * never said. A VM has a file once its creation is complete and until its deletion begins, and an ephemeral VM never:
 * what lies in a directory without one is nobody's, and is swept.
 */

import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rm } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { VmRecord } from '../core/model/vm.ts';
import { assertImageName, assertVmName, isId } from '../core/names.ts';
import { fileError, syncDir, writeFileAtomic } from '../host/files.ts';
import { specSchema, workspaceSchema } from '../store/vm-row.ts';

export const RECORD_FILE = 'vm.json';
const RECORD_VERSION = 1;
/** A spec and two paths; written by us it has about 1 KiB. */
const MAX_RECORD_BYTES = 64 * 1024;

/** RFC 3339 when we wrote it; the Go program's rows may differ, and nothing here computes with it. */
const timeText = z
  .string()
  .max(64)
  .regex(/^[\x20-\x7e]*$/);

const recordSchema = z.strictObject({
  recordVersion: z.literal(RECORD_VERSION),
  /** 32 hex digits: the name of the directory. */
  id: z.string().refine(isId, { message: 'is not an id' }),
  name: z.string().refine(accepted(assertVmName), { message: 'is not a name of a VM' }),
  image: z.strictObject({
    name: z.string().refine(accepted(assertImageName), { message: 'is not a name of an image' }),
    /** Of the root file system the VM's disk stands on; null where it was not known. */
    sha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .nullable(),
  }),
  guestIp: z.string().refine(isIPv4, { message: 'is not an IPv4 address' }),
  // Its VM would be removed by the daemon that finds it.
  spec: specSchema.refine((spec) => !spec.ephemeral, { path: ['ephemeral'], message: 'must be false' }),
  workspace: workspaceSchema.nullable(),
  createdAt: timeText,
  /** When the content of this file last changed; the row's own also tells changes of state. */
  updatedAt: timeText,
});

/** The content of a vm.json. */
export type VmRecordFile = z.output<typeof recordSchema>;

function accepted(check: (text: string) => void): (text: string) => boolean {
  return (text) => {
    try {
      check(text);
      return true;
    } catch (error) {
      if (error instanceof BangerError) return false;
      throw error;
    }
  };
}

/**
 * What the file of this VM has to say; undefined when it is ephemeral, and when the row is too damaged to say it: then a
 * file that is there already is the better one. `imageSha256`: null when it is not known.
 */
export function recordOf(vm: VmRecord, imageSha256: string | null): VmRecordFile | undefined {
  const record = {
    recordVersion: RECORD_VERSION,
    id: vm.id,
    name: vm.name,
    image: { name: vm.spec.imageName, sha256: imageSha256 },
    guestIp: vm.guestIp,
    spec: vm.spec,
    workspace: vm.workspace,
    createdAt: vm.createdAt,
    updatedAt: vm.updatedAt,
  };
  return recordSchema.safeParse(record).data;
}

/** Whether they say the same of the VM; when they were written does not matter. */
export function saysTheSame(one: VmRecordFile, other: VmRecordFile): boolean {
  return encode(one) === encode({ ...other, updatedAt: one.updatedAt });
}

/**
 * The record in a VM's directory; undefined when there is none.
 * @throws {BangerError} `version_mismatch` (of a newer banger), `io_error` (not a regular file in a directory of its
 *   own, not a record, or another VM's), `limit_exceeded`, `permission`
 */
export async function readVmRecord(dir: string, id: string): Promise<VmRecordFile | undefined> {
  const path = join(dir, RECORD_FILE);
  const text = await readOwnFile(dir, path);
  if (text === undefined) return undefined;
  const json = parseJson(text, path);
  const version = z.looseObject({ recordVersion: z.int() }).safeParse(json);
  if (version.success && version.data.recordVersion !== RECORD_VERSION) {
    throw new BangerError(
      'version_mismatch',
      `${path} has record version ${version.data.recordVersion}; this banger reads version ${RECORD_VERSION}`,
      { hint: 'use the banger that wrote it' },
    );
  }
  const record = recordSchema.safeParse(json);
  if (!record.success) throw damaged(path, z.prettifyError(record.error).slice(0, 500));
  if (record.data.id !== id) throw damaged(path, `it is of VM ${record.data.id}`);
  if (record.data.image.name !== record.data.spec.imageName) throw damaged(path, 'it names two images');
  return record.data;
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw damaged(path, 'not JSON');
  }
}

function damaged(path: string, why: string): BangerError {
  return new BangerError('io_error', `${path} is damaged: ${why}`);
}

/** Follows no link: neither the directory nor the file may stand for something elsewhere. */
async function readOwnFile(dir: string, path: string): Promise<string | undefined> {
  try {
    if (!(await lstat(dir)).isDirectory()) throw damaged(path, `${dir} is not a directory`);
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) throw damaged(path, 'it is not a regular file');
    const buffer = Buffer.alloc(MAX_RECORD_BYTES + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
      length += bytesRead;
      if (length > MAX_RECORD_BYTES) {
        throw new BangerError('limit_exceeded', `${path} is larger than ${MAX_RECORD_BYTES} bytes`);
      }
      if (bytesRead === 0) return buffer.toString('utf8', 0, length);
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP') throw damaged(path, 'it is a symbolic link');
    throw fileError(`cannot read ${path}`, error);
  }
}

/** Makes the directory where it is missing. @throws {BangerError} `no_space`, `permission`, `io_error` */
export async function writeVmRecord(dir: string, record: VmRecordFile): Promise<void> {
  try {
    const made = await mkdir(dir, { recursive: true, mode: 0o700 });
    if (made !== undefined) await syncDir(dirname(dir));
  } catch (error) {
    throw fileError(`cannot make ${dir}`, error);
  }
  await writeFileAtomic(join(dir, RECORD_FILE), `${encode(record)}\n`, { mode: 0o600 });
}

function encode(record: VmRecordFile): string {
  return JSON.stringify(record, null, 2);
}

/** From here on the directory is nobody's. Missing is fine. @throws {BangerError} `permission`, `io_error` */
export async function removeVmRecord(dir: string): Promise<void> {
  try {
    await rm(join(dir, RECORD_FILE), { force: true });
  } catch (error) {
    throw fileError(`cannot remove ${join(dir, RECORD_FILE)}`, error);
  }
}

/** Whether a directory carries a record, sound or not: what cannot be looked at counts as one. */
export async function hasVmRecord(dir: string): Promise<boolean> {
  try {
    await lstat(join(dir, RECORD_FILE));
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code !== 'ENOENT' && code !== 'ENOTDIR';
  }
}

/**
 * Ids of the VM directories in `vmsDir`, sorted, with whether each carries a record; none when it is missing.
 * @throws {BangerError} `permission`, `io_error`
 */
export async function listVmDirs(
  vmsDir: string,
): Promise<readonly { readonly id: string; readonly recorded: boolean }[]> {
  const ids = (await namesIn(vmsDir)).filter(isId).sort();
  return await Promise.all(ids.map(async (id) => ({ id, recorded: await hasVmRecord(join(vmsDir, id)) })));
}

async function namesIn(dir: string): Promise<readonly string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError(`cannot read ${dir}`, error);
  }
}
