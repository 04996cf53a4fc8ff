/**
 * Other disks for a VM that does not run, and what its row says of them: all of that or none, whoever is killed meanwhile.
 *
 *   <vm>/exchange/   root.qcow2, transfer.img, shipped*.*, row.json: appears whole, by a rename. From then on the exchange happens,
 *                    and whoever finds the directory goes on with it. It is empty, and removed, when it has happened.
 */

import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import type { VmSpec } from '../core/model/vm.ts';
import type { VmWorkspace } from '../core/model/workspace.ts';
import { createDraft, type Draft, isErrno } from '../host/drafts.ts';
import { fileError, readJsonFile, removeTree, writeFileAtomic } from '../host/files.ts';
import { specSchema, workspaceSchema } from '../store/vm-row.ts';
import { isShippedFile, replaceShippedFiles } from './shipped-files.ts';
import type { VmFiles } from './vm-files.ts';

const EXCHANGE_DIR = 'exchange';
const ROW_FILE = 'row.json';
const MAX_ROW_BYTES = 4 * 1024 * 1024;
const DISKS = ['transferDisk', 'rootDisk'] as const;
const NAMES = { transferDisk: 'transfer.img', rootDisk: 'root.qcow2' } as const;

const rowSchema = z.strictObject({
  spec: specSchema,
  workspace: workspaceSchema.nullable(),
  /** Names of files that are, or were, in the directory: shipped-files.ts. */
  shipped: z.array(z.string().refine(isShippedFile)).default([]),
});

/** The part of a row that is about its disks. */
export interface ExchangedRow {
  readonly spec: VmSpec;
  readonly workspace: VmWorkspace | null;
}

export interface Exchange extends AsyncDisposable {
  /** For what goes with the disks: shipped-files.ts. */
  readonly dir: string;
  /** Where the new disks are to be put before `commit`. */
  readonly disks: Pick<VmFiles, (typeof DISKS)[number]>;
  /** The point of no return: durable. Without it nothing has happened when this is disposed of. */
  commit(row: ExchangedRow): Promise<void>;
}

/** The VM's directory exists. @throws {BangerError} `no_space`, `permission`, `io_error` */
export async function beginExchange({ dir }: VmFiles): Promise<Exchange> {
  const draft: Draft = await createDraft(dir, EXCHANGE_DIR);
  return {
    dir: draft.dir,
    disks: { rootDisk: join(draft.dir, NAMES.rootDisk), transferDisk: join(draft.dir, NAMES.transferDisk) },
    async commit(row) {
      const shipped = (await readdir(draft.dir)).filter(isShippedFile);
      await writeFileAtomic(join(draft.dir, ROW_FILE), `${JSON.stringify({ ...row, shipped })}\n`, {
        mode: 0o600,
        durable: false,
      });
      if (!(await draft.publish()))
        throw new BangerError('io_error', `${dir} is being changed by somebody else`);
    },
    [Symbol.asyncDispose]: () => draft[Symbol.asyncDispose](),
  };
}

/**
 * Puts the disks of a committed exchange in their places. The VM does not run. May be done again until `endExchange`.
 * @returns what its row has to say now; undefined: there is no exchange
 * @throws {BangerError} `io_error`, `permission`
 */
export async function exchangeDisks(files: VmFiles): Promise<ExchangedRow | undefined> {
  const from = join(files.dir, EXCHANGE_DIR);
  if ((await stat(from).catch(() => undefined)) === undefined) return undefined;
  const path = join(from, ROW_FILE);
  const json = await readJsonFile(path, MAX_ROW_BYTES);
  // It goes last but for the directory itself.
  if (json === undefined) {
    await rm(from, { recursive: true, force: true });
    return undefined;
  }
  const row = rowSchema.safeParse(json);
  if (!row.success) throw new BangerError('io_error', `${path} is damaged: ${z.prettifyError(row.error)}`);
  for (const disk of DISKS) await moveIfThere(join(from, NAMES[disk]), files[disk]);
  const { spec, workspace, shipped } = row.data;
  await replaceShippedFiles(from, files.dir, shipped);
  return { spec, workspace };
}

/** The row is written. */
export async function endExchange({ dir }: VmFiles): Promise<void> {
  await removeTree(join(dir, EXCHANGE_DIR), { below: dir });
}

async function moveIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw fileError(`cannot put ${to} in its place`, error);
  }
}
