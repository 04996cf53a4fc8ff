/**
 * The file a snapshot of a VM travels in: docs/snapshots-export.md, "The file". Numbers are little endian.
 *
 *   offset 0   8   "BANGERSN"
 *          8   u32 version of the format
 *          12  u32 length of the header
 *          16  32  SHA-256 of the header
 *          48      the header: JSON, `exportHeaderSchema`
 *   then for each file of the header, in its order, extents in ascending order until `dataBytes` have come:
 *          0   u64 offset in the file: a multiple of 64 KiB
 *          8   u32 length: whole blocks of 64 KiB, a shorter last one where the file ends; at most 1 MiB
 *          12  u32 stored length
 *          16      the bytes, a zstd frame
 *   and at the end
 *          0   32  SHA-256 of everything before
 */

import { constants } from 'node:zlib';
import { z } from 'zod';
import { BangerError } from '../core/errors.ts';
import { frozenFileNames } from './manifest.ts';
import { vmSnapshotSchema } from './vm-snapshot-store.ts';

export const EXPORT_MAGIC = Buffer.from('BANGERSN', 'latin1');
export const EXPORT_VERSION = 1;
export const PREAMBLE_BYTES = 48;
export const DIGEST_BYTES = 32;
export const EXTENT_HEADER_BYTES = 16;
export const MAX_EXTENT_BYTES = 1024 ** 2;
/** zstd's bound for what does not compress is 1/256 more and some bytes: ZSTD_COMPRESSBOUND. */
export const MAX_STORED_BYTES = MAX_EXTENT_BYTES + MAX_EXTENT_BYTES / 256 + 1024;
/** A manifest is at most 256 KiB. */
export const MAX_HEADER_BYTES = 512 * 1024;
/** Extents that are compressed at the same time. */
export const EXTENTS_AT_ONCE = 4;
/** An extent is no longer than this window, so that no frame makes a reader take more memory. */
const WINDOW_LOG = 20;
export const ZSTD_WRITING = {
  params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_windowLog]: WINDOW_LOG },
} as const;
export const ZSTD_READING = { params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG } } as const;

const fileSchema = z.strictObject({
  name: z.string().max(64),
  sizeBytes: z.number().int().nonnegative(),
  /** What is not zero, by blocks of 64 KiB: host/sparse-digest.ts. */
  dataBytes: z.number().int().nonnegative(),
  sparseSha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type ExportedFile = z.infer<typeof fileSchema>;

const exportHeaderSchema = z.strictObject({ manifest: vmSnapshotSchema, files: z.array(fileSchema).max(8) });
export type ExportHeader = z.infer<typeof exportHeaderSchema>;

/** The parts of a snapshot that are files, in the order they travel in. */
export function partsOf({ manifest }: Pick<ExportHeader, 'manifest'>): readonly string[] {
  const { rootDisk, transferDisk, memory, state } = frozenFileNames;
  return manifest.state === null ? [rootDisk, transferDisk] : [rootDisk, transferDisk, state, memory];
}

/** @throws {BangerError} `verify_failed` */
export function parseExportHeader(bytes: Uint8Array): ExportHeader {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged('its header is not JSON', cause);
  }
  const parsed = exportHeaderSchema.safeParse(json);
  if (!parsed.success) throw damaged(`its header: ${z.prettifyError(parsed.error).slice(0, 1024)}`);
  assertConsistent(parsed.data);
  return parsed.data;
}

/** What must agree within the header, whatever it says. */
function assertConsistent(header: ExportHeader): void {
  const { manifest, files } = header;
  const { vm, memory, state, rootDisk } = manifest;
  const names = partsOf(header);
  const agree: readonly (readonly [what: string, holds: boolean])[] = [
    ['its files', names.join() === files.map(({ name }) => name).join()],
    ['memory and state', (memory === null) === (state === null)],
    ['vCPUs', manifest.vcpus === vm.spec.vcpus],
    ['memory', manifest.memoryMib === vm.spec.memoryMib],
    ['the size of memory', memory === null || memory.sizeBytes === manifest.memoryMib * 1024 ** 2],
    ['the size of the disk', manifest.rootDiskBytes === vm.spec.diskSizeBytes],
    ['the image', manifest.image.name === vm.spec.imageName],
    ['the root disk', sameFile(files[0], rootDisk)],
    ['the size of the state', state === null || files[2]?.sizeBytes === state.sizeBytes],
    ['the memory', memory === null || sameFile(files[3], memory)],
    ['what is in the files', files.every((file) => file.dataBytes <= file.sizeBytes)],
    ['the time', !Number.isNaN(Date.parse(manifest.createdAt))],
    ['what it needs', Object.keys(manifest.shape).every((key) => !/\p{C}/u.test(key))],
  ];
  const wrong = agree.find(([, holds]) => !holds);
  if (wrong !== undefined) throw damaged(`its header contradicts itself: ${wrong[0]}`);
}

function sameFile(
  file: ExportedFile | undefined,
  said: { readonly sizeBytes: number; readonly sparseSha256: string },
): boolean {
  return file?.sizeBytes === said.sizeBytes && file.sparseSha256 === said.sparseSha256;
}

export function damaged(what: string, cause?: unknown): BangerError {
  return new BangerError('verify_failed', `the exported snapshot is damaged: ${what}`, { cause });
}
