/**
 * Files of a VM's directory with what is known of its shippings: `shipped.*` of the repository, `shipped-*.*` of each submodule of a
 * full copy. They belong to a moment of its disks, and go where those go.
 */

import { createHash } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { copyFileIfThere } from '../host/files.ts';
import type { ShippedFiles } from '../workspace/shipped-record.ts';

/** The index only saves time, and knows the times of files: it stays where it is. */
const CARRIED = /^shipped(?:-[0-9a-f]{32})?\.(?:json|sent)$/;
const INDEX = /^shipped(?:-[0-9a-f]{32})?\.index$/;

/** @param submodule its path from the top of the repository; absent: of the repository itself */
export function shippedFilesIn(dir: string, submodule?: string): ShippedFiles {
  const base =
    submodule === undefined
      ? 'shipped'
      : `shipped-${createHash('sha256').update(submodule).digest('hex').slice(0, 32)}`;
  return {
    shippedFile: join(dir, `${base}.json`),
    shippedIndex: join(dir, `${base}.index`),
    sentFile: join(dir, `${base}.sent`),
  };
}

export function isShippedFile(name: string): boolean {
  return CARRIED.test(name);
}

/** @throws {BangerError} as `copyFileIfThere` */
export async function copyShippedFiles(from: string, to: string): Promise<void> {
  for (const name of (await readdir(from)).filter(isShippedFile))
    await copyFileIfThere(join(from, name), join(to, name));
}

/** Moves those named from a directory to another, which has no others afterwards. May be done again. */
export async function replaceShippedFiles(from: string, to: string, names: readonly string[]): Promise<void> {
  const kept = new Set(names);
  for (const name of await readdir(to))
    if (INDEX.test(name) || (isShippedFile(name) && !kept.has(name)))
      await rm(join(to, name), { force: true });
  for (const name of (await readdir(from)).filter((one) => kept.has(one)))
    await rename(join(from, name), join(to, name));
}
