/** Writes a squashfs image into an existing file, in place: the file keeps its inode and its size. */

import { fstatSync } from 'node:fs';
import type { BytePath } from '../byte-path.ts';
import { DataArea, type ReadInto, type StoredData, writeFully } from './data-area.ts';
import { encodeIndexedTable, encodeSuperblock, MetadataTable, SUPERBLOCK_BYTES } from './format.ts';
import { buildInodeTables } from './inode-tables.ts';
import { ImageTree } from './tree.ts';

export interface FileFacts {
  /** Permission bits; owner and group are root. */
  readonly mode: number;
  /** Seconds since 1970, 0 to 2^32 - 1. */
  readonly mtimeSeconds: number;
}

/** Readers round sizes up to whole blocks of the device. */
const ALIGNMENT_BYTES = 4096;

export class SquashfsWriter {
  readonly #fd: number;
  readonly #data: DataArea;
  readonly #tree: ImageTree;
  readonly #mtimeSeconds: number;

  /** @param fd open for writing; its size is the limit of the image */
  constructor(fd: number, root: FileFacts) {
    this.#fd = fd;
    this.#data = new DataArea(fd, fstatSync(fd).size);
    this.#tree = new ImageTree(root);
    this.#mtimeSeconds = root.mtimeSeconds;
    // What an earlier image left must not be found while this one is unfinished.
    writeFully(fd, Buffer.alloc(Math.min(SUPERBLOCK_BYTES, fstatSync(fd).size)), 0);
  }

  /** Stores contents without a name yet: undefined when fewer than `size` bytes came. */
  store(size: number, read: ReadInto): StoredData | undefined {
    return this.#data.store(size, read);
  }

  /** Takes back the contents stored last. */
  discard(stored: StoredData): void {
    this.#data.discard(stored);
  }

  addFile(path: BytePath, facts: FileFacts, data: StoredData): void {
    this.#tree.put(path, { kind: 'file', ...facts, data });
  }

  addSymlink(path: BytePath, facts: FileFacts, target: Buffer): void {
    this.#tree.put(path, { kind: 'symlink', ...facts, target });
  }

  /** Says what a directory will look like if a file comes to lie in it; one that is never named here is 0755. */
  describeDirectory(path: BytePath, facts: FileFacts): void {
    this.#tree.describeDirectory(path, facts);
  }

  addDirectory(path: BytePath, facts: FileFacts): void {
    this.#tree.putDirectory(path, facts);
  }

  /** Writes the tables, and last the superblock: only now is it an image. Returns its size in bytes. */
  finish(): number {
    const data = this.#data;
    data.flushFragment();
    const tables = buildInodeTables(this.#tree.root);
    const inodeTableAt = data.position;
    data.append(tables.inodes.encode());
    const directoryTableAt = data.position;
    data.append(tables.directories.encode());
    const fragmentTableAt = data.fragments === 0 ? undefined : this.#appendIndexed(data.fragmentTable);
    const ids = new MetadataTable();
    ids.reserve(4);
    const idTableAt = this.#appendIndexed(ids);
    const bytesUsed = data.position;
    data.append(Buffer.alloc((ALIGNMENT_BYTES - (bytesUsed % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES));
    data.writeWindow();
    const superblock = encodeSuperblock({
      inodes: tables.count,
      mtimeSeconds: this.#mtimeSeconds,
      fragments: data.fragments,
      rootInode: tables.root,
      bytesUsed,
      idTableAt,
      inodeTableAt,
      directoryTableAt,
      fragmentTableAt,
    });
    writeFully(this.#fd, superblock, 0);
    return data.position;
  }

  #appendIndexed(table: MetadataTable): number {
    const { bytes, listAt } = encodeIndexedTable(table, this.#data.position);
    this.#data.append(bytes);
    return listAt;
  }
}
