/**
 * The parts of squashfs 4.0 that an image without compression needs: Documentation/filesystems/squashfs.rst and
 * fs/squashfs/squashfs_fs.h of the Linux kernel. Little endian throughout.
 *
 * Nothing is compressed: the image is read once or twice by a guest whose processor may be emulated, and the host has
 * the bytes in its page cache; packing and unpacking costs more than it saves there.
 */

export const BLOCK_BYTES = 128 * 1024;
export const SUPERBLOCK_BYTES = 96;
export const METADATA_BLOCK_BYTES = 8192;
/** In a block's size field: stored as it is. */
export const UNCOMPRESSED_DATA = 1 << 24;
export const NO_FRAGMENT = 0xffffffff;
export const NO_XATTR = 0xffffffff;
export const MAX_U32 = 0xffffffff;

const UNCOMPRESSED_METADATA = 0x8000;
const MAGIC = 0x73717368;
const BLOCK_LOG = 17;
/** zlib: every kernel with squashfs has it, and an image must name some compressor although it uses none. */
const COMPRESSION_ZLIB = 1;
/** Inodes, data, fragments, xattrs and ids uncompressed; no xattrs. */
const FLAGS = 0x0001 | 0x0002 | 0x0008 | 0x0100 | 0x0200 | 0x0800;
const ABSENT_TABLE = 0xffffffffffffffffn;

export const INODE_TYPE = {
  directory: 1,
  file: 2,
  symlink: 3,
  largeDirectory: 8,
  largeFile: 9,
} as const;

export interface SuperblockFields {
  readonly inodes: number;
  readonly mtimeSeconds: number;
  readonly fragments: number;
  readonly rootInode: InodePosition;
  readonly bytesUsed: number;
  readonly idTableAt: number;
  readonly inodeTableAt: number;
  readonly directoryTableAt: number;
  /** Undefined without fragments. */
  readonly fragmentTableAt: number | undefined;
}

/** Where something begins in a metadata table. */
export interface InodePosition {
  /** First byte of the metadata block, from the start of the table. */
  readonly block: number;
  /** Byte within that block's content. */
  readonly offset: number;
}

export function encodeSuperblock(fields: SuperblockFields): Buffer {
  const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(fields.inodes, 4);
  bytes.writeUInt32LE(fields.mtimeSeconds, 8);
  bytes.writeUInt32LE(BLOCK_BYTES, 12);
  bytes.writeUInt32LE(fields.fragments, 16);
  bytes.writeUInt16LE(COMPRESSION_ZLIB, 20);
  bytes.writeUInt16LE(BLOCK_LOG, 22);
  bytes.writeUInt16LE(FLAGS, 24);
  bytes.writeUInt16LE(1, 26);
  bytes.writeUInt16LE(4, 28);
  bytes.writeUInt16LE(0, 30);
  bytes.writeBigUInt64LE((BigInt(fields.rootInode.block) << 16n) | BigInt(fields.rootInode.offset), 32);
  bytes.writeBigUInt64LE(BigInt(fields.bytesUsed), 40);
  bytes.writeBigUInt64LE(BigInt(fields.idTableAt), 48);
  bytes.writeBigUInt64LE(ABSENT_TABLE, 56);
  bytes.writeBigUInt64LE(BigInt(fields.inodeTableAt), 64);
  bytes.writeBigUInt64LE(BigInt(fields.directoryTableAt), 72);
  bytes.writeBigUInt64LE(
    fields.fragmentTableAt === undefined ? ABSENT_TABLE : BigInt(fields.fragmentTableAt),
    80,
  );
  bytes.writeBigUInt64LE(ABSENT_TABLE, 88);
  return bytes;
}

/** A metadata table being built: content is cut into blocks of 8 KiB, each behind a two-byte header. */
export class MetadataTable {
  readonly #parts: Buffer[] = [];
  #length = 0;

  /** Bytes of content so far. */
  get length(): number {
    return this.#length;
  }

  /** Where the next byte will be. */
  get position(): InodePosition {
    return positionOf(this.#length);
  }

  /** `size` more bytes of content, zeroed, to be filled at any time before `encode`. */
  reserve(size: number): Buffer {
    const part = Buffer.alloc(size);
    this.#parts.push(part);
    this.#length += size;
    return part;
  }

  /** The table as it lies on disk. */
  encode(): Buffer {
    const content = Buffer.concat(this.#parts, this.#length);
    const blocks: Buffer[] = [];
    for (let at = 0; at < content.length; at += METADATA_BLOCK_BYTES) {
      const block = content.subarray(at, at + METADATA_BLOCK_BYTES);
      const header = Buffer.alloc(2);
      header.writeUInt16LE(block.length | UNCOMPRESSED_METADATA);
      blocks.push(header, block);
    }
    return Buffer.concat(blocks);
  }
}

export function positionOf(length: number): InodePosition {
  return {
    block: Math.floor(length / METADATA_BLOCK_BYTES) * (METADATA_BLOCK_BYTES + 2),
    offset: length % METADATA_BLOCK_BYTES,
  };
}

/** A table that is found through a list of its blocks' addresses (ids, fragments), to be placed at `at`. */
export function encodeIndexedTable(table: MetadataTable, at: number): { bytes: Buffer; listAt: number } {
  const blocks = table.encode();
  const count = Math.ceil(table.length / METADATA_BLOCK_BYTES);
  const list = Buffer.alloc(count * 8);
  for (let index = 0; index < count; index += 1) {
    list.writeBigUInt64LE(BigInt(at + index * (METADATA_BLOCK_BYTES + 2)), index * 8);
  }
  return { bytes: Buffer.concat([blocks, list]), listAt: at + blocks.length };
}
