/**
 * `shipped.json` in a VM's directory: what of the last shippings is not in git. It only saves work: without it, the guest is asked,
 * or what differs counts as changed in the guest.
 */

import { rename, rm, stat } from 'node:fs/promises';
import { z } from 'zod';
import type { ShippedState, VmWorkspace } from '../core/model/workspace.ts';
import { ArchiveConflicts } from '../guest/archive/transfer.ts';
import { readJsonFile, writeFileAtomic } from '../host/files.ts';
import type { BytePath } from './byte-path.ts';
import { type HiddenEntries, hiddenEntries } from './shipped-commit.ts';
import type { TreeChange } from './tree-change.ts';

export interface ShippedRecord extends ShippedState {
  readonly headCommit: string;
  /** From the head's tree to the one that was shipped. */
  readonly changes: readonly TreeChange[];
  /** Of the repository's index file then: while it is the same, so is what is staged. */
  readonly indexStamp: string;
  /** Of that index. */
  readonly hidden: HiddenEntries;
}

/** Where a VM has what is known of its shippings. */
export interface ShippedFiles {
  readonly shippedFile: string;
  readonly shippedIndex: string;
  readonly sentFile: string;
}

export interface ShippingSteps {
  /** Undefined: the guest has it all. Throws ArchiveConflicts when the guest's checks do not hold, and so nothing was written there. */
  readonly send: (() => Promise<void>) | undefined;
  /** The guest has it all: for the row. */
  readonly onShipped: (shipped: ShippedRecord) => Promise<void>;
  /** The index that goes with it; undefined: none is kept. */
  readonly indexPath: string | undefined;
}

/** A guest that lost its power may have lost the last shippings, too: it goes on from one of these. */
const KEPT_RECORDS = 8;
const MAX_RECORD_BYTES = 256 * 1024 * 1024;
const text = z.string().max(4096);
const oid = z.string().regex(/^[0-9a-f]{40,64}$/);
const entry = z.object({ mode: z.int(), oid }).nullable();
const pathsSchema: z.ZodType<readonly BytePath[]> = z.array(text);
const recordsSchema: z.ZodType<readonly ShippedRecord[]> = z.array(
  z.object({
    commit: oid,
    tree: oid,
    branch: text.nullable(),
    staged: text,
    headCommit: oid,
    changes: z.array(z.object({ path: text, from: entry, to: entry })),
    indexStamp: text,
    hidden: z.object({ assumedUnchanged: z.array(text), sparse: z.array(text) }),
  }),
);

/** Changes with every write of the file: git replaces it by a rename. Empty: there is none. */
export async function indexStampOf(indexPath: string): Promise<string> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(indexPath, { bigint: true });
    return `${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch {
    return '';
  }
}

/** What was shipped last, and what before it: a shipping that was cut off may have come to its end in the guest, or not. Latest first. */
export async function readShippedRecords(path: string): Promise<readonly ShippedRecord[]> {
  const found = recordsSchema.safeParse(await readJsonFile(path, MAX_RECORD_BYTES).catch(() => undefined));
  return found.success ? found.data : [];
}

/** What the row says was shipped; undefined: more is not known of it. */
export function lastShipped(
  { shipped, headCommit }: Pick<VmWorkspace, 'shipped' | 'headCommit'>,
  records: readonly ShippedRecord[],
): ShippedRecord | undefined {
  if (shipped === null) return undefined;
  const known = records.find((record) => isSameShipping(record, shipped));
  if (known !== undefined || shipped.commit !== headCommit) return known;
  return { ...shipped, headCommit, changes: [], indexStamp: '', hidden: hiddenEntries([]) };
}

/** In an order in which, wherever it is cut off, what the guest holds is among the records and no index stands beside another's. */
export async function recordShipping(
  { shippedFile, shippedIndex, sentFile }: ShippedFiles,
  shipped: ShippedRecord,
  records: readonly ShippedRecord[],
  { send, onShipped, indexPath }: ShippingSteps,
): Promise<void> {
  await rm(shippedIndex, { force: true });
  const others = records.filter((record) => !isSameShipping(record, shipped));
  await writeShippedRecords(shippedFile, [shipped, ...others].slice(0, KEPT_RECORDS));
  try {
    await send?.();
  } catch (error) {
    // What the guest refused it has nothing of.
    if (error instanceof ArchiveConflicts) await writeShippedRecords(shippedFile, records);
    throw error;
  }
  await onShipped(shipped);
  await rm(sentFile, { force: true });
  if (indexPath !== undefined) await keepShippedIndex(indexPath, shippedIndex);
}

/** Shippings that were begun after that one, and whose end nobody heard of. Latest first. */
export function begunAfter(last: ShippedRecord, records: readonly ShippedRecord[]): readonly ShippedRecord[] {
  const at = records.findIndex((record) => isSameShipping(record, last));
  return at < 0 ? records : records.slice(0, at);
}

/** Whether the guest may have files of the host's that no finished shipping brought: they look as if the guest had changed them. */
export async function isUnsettled(
  { shippedFile, sentFile }: Pick<ShippedFiles, 'shippedFile' | 'sentFile'>,
  workspace: Pick<VmWorkspace, 'shipped' | 'headCommit'>,
): Promise<boolean> {
  const [records, sent] = await Promise.all([readShippedRecords(shippedFile), readSentPaths(sentFile)]);
  const last = lastShipped(workspace, records);
  return sent.length > 0 || (last !== undefined && begunAfter(last, records).length > 0);
}

/** Files that were sent ahead, and not written down: the guest may have them as no record says. */
export async function readSentPaths(sentFile: string): Promise<readonly BytePath[]> {
  const found = pathsSchema.safeParse(await readJsonFile(sentFile, MAX_RECORD_BYTES).catch(() => undefined));
  return found.success ? found.data : [];
}

/** To be called before they are sent. */
export async function noteSentPaths(sentFile: string, paths: readonly BytePath[]): Promise<void> {
  await writeFileAtomic(sentFile, JSON.stringify(paths), { mode: 0o600, durable: false });
}

function isSameShipping(one: ShippedState, other: ShippedState): boolean {
  return one.commit === other.commit && one.branch === other.branch && one.staged === other.staged;
}

/** Beside the record; where it cannot be kept, the next shipping takes the repository's own. */
export async function keepShippedIndex(from: string, to: string): Promise<void> {
  await rename(from, to).catch(() => rm(to, { force: true }));
}

/** Not fsynced: what a crash of the host leaves is told from what counts by its commit. */
export async function writeShippedRecords(path: string, records: readonly ShippedRecord[]): Promise<void> {
  await writeFileAtomic(path, JSON.stringify(records), { mode: 0o600, durable: false });
}
