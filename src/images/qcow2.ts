/**
 * The bytes of an empty qcow2 overlay, and the virtual size of an existing image. Pure.
 * Source: docs/interop/qcow2.txt of QEMU. Everything is big endian.
 */

import assert from 'node:assert/strict';

export const SECTOR_BYTES = 512;
export const QCOW2_MAGIC = 0x514649fb;
export const QCOW2_VERSION = 3;
export const CLUSTER_BITS = 16;
export const CLUSTER_BYTES = 1 << CLUSTER_BITS;
/** One L2 table is a cluster of 8-byte entries, each for one cluster of data: 512 MiB. */
export const BYTES_PER_L1_ENTRY = (CLUSTER_BYTES / 8) * CLUSTER_BYTES;
/** One cluster of L1 table: what a single refcount block of an empty overlay describes without more ado. */
export const MAX_OVERLAY_BYTES = (CLUSTER_BYTES / 8) * BYTES_PER_L1_ENTRY;
const HEADER_LENGTH = 104;
export const REFCOUNT_ORDER_16_BITS = 4;
const EXTENSION_BACKING_FORMAT = 0xe2792aca;
/** The format's own limit on the length of the backing file's name. */
export const MAX_BACKING_NAME_BYTES = 1023;

const REFCOUNT_TABLE_AT = CLUSTER_BYTES;
const REFCOUNT_BLOCK_AT = 2 * CLUSTER_BYTES;
const L1_TABLE_AT = 3 * CLUSTER_BYTES;
const CLUSTERS = 4;

export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface OverlayBytes {
  /** What is not zero. */
  readonly pieces: readonly Piece[];
  readonly fileSizeBytes: number;
}

export interface OverlayShape {
  /** Absolute path of the base, or relative to the overlay's directory. */
  readonly backingName: string;
  readonly backingFormat: 'raw' | 'qcow2';
  /** Virtual size: a positive multiple of 512, at most MAX_OVERLAY_BYTES. */
  readonly sizeBytes: number;
}

/** An overlay in which nothing has been written: header, refcounts of its four clusters, an L1 table of zeros. */
export function emptyOverlay(shape: OverlayShape): OverlayBytes {
  const { sizeBytes } = shape;
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % SECTOR_BYTES === 0);
  assert(sizeBytes <= MAX_OVERLAY_BYTES, 'the caller bounds the size');
  const refcountTable = Buffer.alloc(8);
  refcountTable.writeBigUInt64BE(BigInt(REFCOUNT_BLOCK_AT));
  const refcountBlock = Buffer.alloc(2 * CLUSTERS);
  for (let cluster = 0; cluster < CLUSTERS; cluster++) refcountBlock.writeUInt16BE(1, 2 * cluster);
  return {
    pieces: [
      { offset: 0, bytes: overlayHeader(shape, emptyTables(shape.sizeBytes)) },
      { offset: REFCOUNT_TABLE_AT, bytes: refcountTable },
      { offset: REFCOUNT_BLOCK_AT, bytes: refcountBlock },
    ],
    fileSizeBytes: CLUSTERS * CLUSTER_BYTES,
  };
}

/** Where an overlay has its tables: byte offsets, of whole clusters. */
export interface OverlayTables {
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
}

function emptyTables(sizeBytes: number): OverlayTables {
  return {
    l1Entries: Math.ceil(sizeBytes / BYTES_PER_L1_ENTRY),
    l1Offset: L1_TABLE_AT,
    refcountTableOffset: REFCOUNT_TABLE_AT,
    refcountTableClusters: 1,
  };
}

/** The beginning of an overlay: less than a cluster, whose rest is zeros. */
export function overlayHeader(
  { backingName, backingFormat, sizeBytes }: OverlayShape,
  tables: OverlayTables,
): Uint8Array {
  const name = Buffer.from(backingName, 'utf8');
  assert(name.length > 0 && name.length <= MAX_BACKING_NAME_BYTES, 'the caller bounds the name');
  const format = Buffer.from(backingFormat, 'latin1');
  const extension = Buffer.alloc(8 + 8 + 8);
  extension.writeUInt32BE(EXTENSION_BACKING_FORMAT, 0);
  extension.writeUInt32BE(format.length, 4);
  format.copy(extension, 8);
  // The last 8 bytes are the end marker: an extension of type and length zero.

  const head = Buffer.alloc(HEADER_LENGTH);
  head.writeUInt32BE(QCOW2_MAGIC, 0);
  head.writeUInt32BE(QCOW2_VERSION, 4);
  head.writeBigUInt64BE(BigInt(HEADER_LENGTH + extension.length), 8);
  head.writeUInt32BE(name.length, 16);
  head.writeUInt32BE(CLUSTER_BITS, 20);
  head.writeBigUInt64BE(BigInt(sizeBytes), 24);
  head.writeUInt32BE(tables.l1Entries, 36);
  head.writeBigUInt64BE(BigInt(tables.l1Offset), 40);
  head.writeBigUInt64BE(BigInt(tables.refcountTableOffset), 48);
  head.writeUInt32BE(tables.refcountTableClusters, 56);
  head.writeUInt32BE(REFCOUNT_ORDER_16_BITS, 96);
  head.writeUInt32BE(HEADER_LENGTH, 100);
  return Buffer.concat([head, extension, name]);
}

/** How many leading bytes of a file `qcow2VirtualSize` wants. */
export const QCOW2_PROBE_BYTES = 32;

/** The virtual size in a qcow2 header, bytes; undefined when it is none. */
export function qcow2VirtualSize(start: Uint8Array): number | undefined {
  if (start.length < QCOW2_PROBE_BYTES) return undefined;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  if (view.getUint32(0, false) !== QCOW2_MAGIC) return undefined;
  const size = Number(view.getBigUint64(24, false));
  return Number.isSafeInteger(size) ? size : undefined;
}
