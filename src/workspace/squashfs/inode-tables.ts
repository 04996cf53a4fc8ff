/** The inode table and the directory table of an image: every directory after what is in it. */

import assert from 'node:assert/strict';
import {
  BLOCK_BYTES,
  type InodePosition,
  INODE_TYPE,
  MAX_U32,
  METADATA_BLOCK_BYTES,
  MetadataTable,
  NO_FRAGMENT,
  NO_XATTR,
  positionOf,
  UNCOMPRESSED_DATA,
} from './format.ts';
import type { DirectoryNode, FileNode, SymlinkNode, TreeNode } from './tree.ts';

export interface InodeTables {
  readonly inodes: MetadataTable;
  readonly directories: MetadataTable;
  readonly count: number;
  readonly root: InodePosition;
}

/** A directory's own `.` and `..` are not stored, but counted in its size. */
const IMPLIED_ENTRIES_BYTES = 3;
const MAX_ENTRIES_PER_HEADER = 256;
const MAX_SMALL_LISTING_BYTES = 0xffff - IMPLIED_ENTRIES_BYTES;

interface PlacedChild {
  readonly name: string;
  readonly number: number;
  readonly position: InodePosition;
  readonly type: number;
}

/** One entry of the index that lets the kernel jump into a large directory. */
interface ListingIndex {
  readonly listingOffset: number;
  readonly block: number;
  readonly name: string;
}

export function buildInodeTables(root: DirectoryNode): InodeTables {
  const builder = new TableBuilder();
  return builder.build(root);
}

class TableBuilder {
  readonly #inodes = new MetadataTable();
  readonly #directories = new MetadataTable();
  #count = 0;

  build(root: DirectoryNode): InodeTables {
    const number = this.#nextNumber();
    // By convention the root's parent has the number after the last: it is known only at the end.
    const { position, parentField } = this.#directory(root, number, 0);
    parentField.writeUInt32LE(this.#count + 1);
    return { inodes: this.#inodes, directories: this.#directories, count: this.#count, root: position };
  }

  #nextNumber(): number {
    this.#count += 1;
    return this.#count;
  }

  #directory(
    node: DirectoryNode,
    number: number,
    parent: number,
  ): { position: InodePosition; parentField: Buffer } {
    const names = [...node.children.keys()].sort();
    const children: PlacedChild[] = [];
    const reserved = names.map((name) => ({
      name,
      child: node.children.get(name),
      number: this.#nextNumber(),
    }));
    for (const { name, child, number: childNumber } of reserved) {
      assert(child !== undefined);
      const position = this.#place(child, childNumber, number);
      children.push({ name, number: childNumber, position, type: INODE_TYPE[child.kind] });
    }
    const subdirectories = children.filter((child) => child.type === INODE_TYPE.directory).length;
    return this.#directoryInode(node, number, parent, subdirectories, this.#listing(children));
  }

  #place(node: TreeNode, number: number, parent: number): InodePosition {
    if (node.kind === 'file') return this.#file(node, number);
    if (node.kind === 'symlink') return this.#symlink(node, number);
    return this.#directory(node, number, parent).position;
  }

  #file(node: FileNode, number: number): InodePosition {
    const { size, start, fragment } = node.data;
    const position = this.#inodes.position;
    const blocks = fragment === undefined ? Math.ceil(size / BLOCK_BYTES) : 0;
    const large = size > MAX_U32 || start > MAX_U32;
    const bytes = this.#inodes.reserve((large ? 56 : 32) + blocks * 4);
    writeCommon(bytes, large ? INODE_TYPE.largeFile : INODE_TYPE.file, node, number);
    const fragmentIndex = fragment?.index ?? NO_FRAGMENT;
    const fragmentOffset = fragment?.offset ?? 0;
    if (large) {
      bytes.writeBigUInt64LE(BigInt(start), 16);
      bytes.writeBigUInt64LE(BigInt(size), 24);
      bytes.writeUInt32LE(1, 40);
      bytes.writeUInt32LE(fragmentIndex, 44);
      bytes.writeUInt32LE(fragmentOffset, 48);
      bytes.writeUInt32LE(NO_XATTR, 52);
    } else {
      bytes.writeUInt32LE(start, 16);
      bytes.writeUInt32LE(fragmentIndex, 20);
      bytes.writeUInt32LE(fragmentOffset, 24);
      bytes.writeUInt32LE(size, 28);
    }
    for (let block = 0; block < blocks; block += 1) {
      const length = Math.min(BLOCK_BYTES, size - block * BLOCK_BYTES);
      bytes.writeUInt32LE(length | UNCOMPRESSED_DATA, (large ? 56 : 32) + block * 4);
    }
    return position;
  }

  #symlink(node: SymlinkNode, number: number): InodePosition {
    const position = this.#inodes.position;
    const bytes = this.#inodes.reserve(24 + node.target.length);
    writeCommon(bytes, INODE_TYPE.symlink, node, number);
    bytes.writeUInt32LE(1, 16);
    bytes.writeUInt32LE(node.target.length, 20);
    node.target.copy(bytes, 24);
    return position;
  }

  /** Headers cover runs of at most 256 entries whose inodes share a metadata block and have near numbers. */
  #listing(children: readonly PlacedChild[]): Listing {
    const start = this.#directories.length;
    const index: ListingIndex[] = [];
    let header: { count: Buffer; first: PlacedChild; entries: number; at: number } | undefined;
    for (const child of children) {
      const at = this.#directories.length;
      const newBlock = header !== undefined && blockOf(at) !== blockOf(header.at);
      if (header === undefined || newBlock || !fits(header, child)) {
        if (newBlock) {
          index.push({ listingOffset: at - start, block: positionOf(at).block, name: child.name });
        }
        const bytes = this.#directories.reserve(12);
        bytes.writeUInt32LE(child.position.block, 4);
        bytes.writeUInt32LE(child.number, 8);
        header = { count: bytes.subarray(0, 4), first: child, entries: 0, at };
      }
      const entry = this.#directories.reserve(8 + child.name.length);
      entry.writeUInt16LE(child.position.offset, 0);
      entry.writeInt16LE(child.number - header.first.number, 2);
      entry.writeUInt16LE(child.type, 4);
      entry.writeUInt16LE(child.name.length - 1, 6);
      entry.write(child.name, 8, 'latin1');
      header.count.writeUInt32LE(header.entries);
      header.entries += 1;
    }
    return { start: positionOf(start), bytes: this.#directories.length - start, index };
  }

  #directoryInode(
    node: DirectoryNode,
    number: number,
    parent: number,
    subdirectories: number,
    listing: Listing,
  ): { position: InodePosition; parentField: Buffer } {
    const position = this.#inodes.position;
    const size = listing.bytes + IMPLIED_ENTRIES_BYTES;
    const links = 2 + subdirectories;
    if (listing.index.length === 0 && listing.bytes <= MAX_SMALL_LISTING_BYTES) {
      const bytes = this.#inodes.reserve(32);
      writeCommon(bytes, INODE_TYPE.directory, node, number);
      bytes.writeUInt32LE(listing.start.block, 16);
      bytes.writeUInt32LE(links, 20);
      bytes.writeUInt16LE(size, 24);
      bytes.writeUInt16LE(listing.start.offset, 26);
      bytes.writeUInt32LE(parent, 28);
      return { position, parentField: bytes.subarray(28, 32) };
    }
    const bytes = this.#inodes.reserve(40);
    writeCommon(bytes, INODE_TYPE.largeDirectory, node, number);
    bytes.writeUInt32LE(links, 16);
    bytes.writeUInt32LE(size, 20);
    bytes.writeUInt32LE(listing.start.block, 24);
    bytes.writeUInt32LE(parent, 28);
    bytes.writeUInt16LE(listing.index.length, 32);
    bytes.writeUInt16LE(listing.start.offset, 34);
    bytes.writeUInt32LE(NO_XATTR, 36);
    for (const item of listing.index) this.#indexItem(item);
    return { position, parentField: bytes.subarray(28, 32) };
  }

  #indexItem({ listingOffset, block, name }: ListingIndex): void {
    const bytes = this.#inodes.reserve(12 + name.length);
    bytes.writeUInt32LE(listingOffset, 0);
    bytes.writeUInt32LE(block, 4);
    bytes.writeUInt32LE(name.length - 1, 8);
    bytes.write(name, 12, 'latin1');
  }
}

interface Listing {
  readonly start: InodePosition;
  readonly bytes: number;
  readonly index: readonly ListingIndex[];
}

function fits(header: { first: PlacedChild; entries: number }, child: PlacedChild): boolean {
  return (
    header.entries < MAX_ENTRIES_PER_HEADER &&
    header.first.position.block === child.position.block &&
    child.number - header.first.number <= 0x7fff
  );
}

function blockOf(length: number): number {
  return Math.floor(length / METADATA_BLOCK_BYTES);
}

/** Owner and group are entry 0 of the id table: root. */
function writeCommon(
  bytes: Buffer,
  type: number,
  node: { mode: number; mtimeSeconds: number },
  number: number,
): void {
  bytes.writeUInt16LE(type, 0);
  bytes.writeUInt16LE(node.mode, 2);
  bytes.writeUInt32LE(node.mtimeSeconds, 8);
  bytes.writeUInt32LE(number, 12);
}
