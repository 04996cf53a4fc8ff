/**
 * Overlays from elsewhere. The header of a qcow2 file can name any file of the host to be read as its base, or to be
 * written to as its data: one from elsewhere is never opened with the header it came with. What it says is checked, and
 * a header of our own takes its place, made of nothing but the numbers that were checked.
 * Source: docs/interop/qcow2.txt of QEMU.
 */

import { BangerError } from '../core/errors.ts';
import {
  BYTES_PER_L1_ENTRY,
  CLUSTER_BITS,
  CLUSTER_BYTES,
  MAX_OVERLAY_BYTES,
  type OverlayTables,
  QCOW2_MAGIC,
  QCOW2_VERSION,
  REFCOUNT_ORDER_16_BITS,
} from './qcow2.ts';

/** What is used of it. */
export interface ForeignOverlay {
  readonly sizeBytes: number;
  readonly tables: OverlayTables;
}

/** How many leading bytes of the file are looked at, and replaced. */
export const OVERLAY_HEADER_BYTES = CLUSTER_BYTES;
/** Ours, and QEMU's when it writes the header anew, with the compression type in it. */
const HEADER_LENGTHS: ReadonlySet<number> = new Set([104, 112]);
const EXTENSION_END = 0;
/** Base format, and the names of feature bits for messages: neither leads anywhere. */
const HARMLESS_EXTENSIONS: ReadonlySet<number> = new Set([0xe2792aca, 0x6803f857]);
/** Of every overlay up to our largest, twice over. */
const MAX_REFCOUNT_TABLE_CLUSTERS = 64;

/**
 * @param start the first OVERLAY_HEADER_BYTES of the file
 * @throws {BangerError} `verify_failed` with what it has that ours have not
 */
export function readForeignOverlay(start: Buffer, fileSizeBytes: number): ForeignOverlay {
  if (start.length < OVERLAY_HEADER_BYTES || fileSizeBytes < OVERLAY_HEADER_BYTES)
    throw refused('it is too short');
  const u64 = (at: number): number => Number(start.readBigUInt64BE(at));
  const sizeBytes = u64(24);
  const headerLength = start.readUInt32BE(100);
  const tables = {
    l1Entries: start.readUInt32BE(36),
    l1Offset: u64(40),
    refcountTableOffset: u64(48),
    refcountTableClusters: start.readUInt32BE(56),
  };
  const checks: readonly (readonly [what: string, isAsOurs: boolean])[] = [
    ['it is no qcow2 file', start.readUInt32BE(0) === QCOW2_MAGIC],
    ['its version of the format', start.readUInt32BE(4) === QCOW2_VERSION],
    ['the size of its clusters', start.readUInt32BE(20) === CLUSTER_BITS],
    ['its size', sizeBytes > 0 && sizeBytes <= MAX_OVERLAY_BYTES && sizeBytes % 512 === 0],
    ['encryption', start.readUInt32BE(32) === 0],
    ['snapshots of its own', start.readUInt32BE(60) === 0 && u64(64) === 0],
    // Among them: an external data file.
    ['incompatible features', u64(72) === 0],
    ['compatible features', u64(80) === 0],
    ['features of its own', u64(88) === 0],
    ['the width of its refcounts', start.readUInt32BE(96) === REFCOUNT_ORDER_16_BITS],
    ['the length of its header', HEADER_LENGTHS.has(headerLength)],
    ['its compression', headerLength === 104 || u64(104) === 0],
    ['its tables', tablesFit(tables, sizeBytes, fileSizeBytes)],
  ];
  const wrong = checks.find(([, isAsOurs]) => !isAsOurs);
  if (wrong !== undefined) throw refused(wrong[0]);
  assertExtensions(start, headerLength);
  return { sizeBytes, tables };
}

function tablesFit(tables: OverlayTables, sizeBytes: number, fileSizeBytes: number): boolean {
  const { l1Entries, l1Offset, refcountTableOffset, refcountTableClusters } = tables;
  const fits = (offset: number, bytes: number): boolean =>
    offset % CLUSTER_BYTES === 0 && offset >= OVERLAY_HEADER_BYTES && offset + bytes <= fileSizeBytes;
  return (
    l1Entries >= Math.ceil(sizeBytes / BYTES_PER_L1_ENTRY) &&
    l1Entries <= MAX_OVERLAY_BYTES / BYTES_PER_L1_ENTRY &&
    fits(l1Offset, l1Entries * 8) &&
    refcountTableClusters > 0 &&
    refcountTableClusters <= MAX_REFCOUNT_TABLE_CLUSTERS &&
    // QEMU rounds it up to a cluster, the file may end before.
    fits(refcountTableOffset, 8)
  );
}

function assertExtensions(start: Buffer, headerLength: number): void {
  const end = start.length - 8;
  for (let at = headerLength; at <= end; ) {
    const type = start.readUInt32BE(at);
    const length = start.readUInt32BE(at + 4);
    if (type === EXTENSION_END) return;
    if (!HARMLESS_EXTENSIONS.has(type)) throw refused(`the extension 0x${type.toString(16)}`);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  throw refused('its extensions');
}

function refused(what: string): BangerError {
  return new BangerError('verify_failed', `the disk is not one that banger makes: ${what}`, {
    hint: 'nothing of it was used',
  });
}
