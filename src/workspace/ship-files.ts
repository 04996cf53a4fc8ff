/** Puts files of a directory into an image, and finds out which of them are what the index says. */

import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, type Stats } from 'node:fs';
import { BangerError } from '../core/errors.ts';
import { type BytePath, displayPath } from './byte-path.ts';
import type { ShippedStat } from './git-index.ts';
import type { IndexEntry } from './index-entries.ts';
import type { ObjectFormat } from './repo.ts';
import type { StoredData } from './squashfs/data-area.ts';
import type { FileFacts, SquashfsWriter } from './squashfs/image-writer.ts';
import { type Found, readNext, TreeReader } from './tree-reader.ts';

export interface ShipFilesOptions {
  readonly rootPath: string;
  readonly entries: readonly IndexEntry[];
  readonly untracked: readonly BytePath[];
  readonly indexSeconds: number;
  readonly objectFormat: ObjectFormat;
  /** Called before each file; throws to give up. */
  readonly onFile: (filesDone: number) => void;
}

export interface ShippedFiles {
  readonly files: number;
  readonly bytes: number;
  /** Of the newest file, seconds. */
  readonly newestSeconds: number;
  /** By path: the files that need no second look in the guest. */
  readonly clean: ReadonlyMap<BytePath, ShippedStat>;
}

const ATTEMPTS = 3;
const PERMISSION_BITS = 0o777;
/** The image and git have 32 bits for it; the index must still be one second newer. */
const MAX_SECONDS = 0xfffffffe;

export function factsOf(stat: Stats): FileFacts {
  const seconds = Math.floor(stat.mtimeMs / 1000);
  // Without set-user-ID and the like: the owner in the guest is root.
  return { mode: stat.mode & PERMISSION_BITS, mtimeSeconds: Math.min(Math.max(seconds, 0), MAX_SECONDS) };
}

/** @throws {BangerError} `io_error` (a file that never holds still), `permission`, `limit_exceeded`, `no_space` */
export function shipFiles(
  openWriter: (root: FileFacts) => SquashfsWriter,
  options: ShipFilesOptions,
): { writer: SquashfsWriter; shipped: ShippedFiles } {
  let writer: SquashfsWriter | undefined;
  const reader = new TreeReader(options.rootPath, ({ path, stat }) =>
    writer?.describeDirectory(path, factsOf(stat)),
  );
  try {
    writer = openWriter(factsOf(reader.root));
    const shipper = new Shipper(writer, reader, options);
    for (const [index, entry] of options.entries.entries()) {
      // An unresolved merge has several entries for one file.
      if (entry.path !== options.entries[index - 1]?.path) shipper.ship(entry.path, entry);
    }
    for (const path of options.untracked) shipper.ship(path, undefined);
    return { writer, shipped: shipper };
  } finally {
    reader.close();
  }
}

class Shipper implements ShippedFiles {
  readonly #writer: SquashfsWriter;
  readonly #reader: TreeReader;
  readonly #options: ShipFilesOptions;
  readonly clean = new Map<BytePath, ShippedStat>();
  files = 0;
  bytes = 0;
  newestSeconds = 0;

  constructor(writer: SquashfsWriter, reader: TreeReader, options: ShipFilesOptions) {
    this.#writer = writer;
    this.#reader = reader;
    this.#options = options;
  }

  ship(path: BytePath, entry: IndexEntry | undefined): void {
    this.#options.onFile(this.files);
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const found = this.#reader.open(path);
      if (found === undefined || this.#put(path, found, entry)) return;
    }
    throw new BangerError('io_error', `${displayPath(path)} changed each time it was read`, {
      hint: 'something is writing to it; run the command again when that is done',
    });
  }

  /** False when the file changed under the reader: what was stored is taken back. */
  #put(path: BytePath, found: Found, entry: IndexEntry | undefined): boolean {
    const facts = factsOf(found.stat);
    if (found.kind === 'symlink') {
      this.#writer.addSymlink(path, facts, found.target);
      const oid = () => this.#hash(found.target.length).update(found.target).digest('hex');
      this.#note(path, facts, found.target.length, this.#isClean(entry, found.stat, oid));
      return true;
    }
    try {
      return this.#putFile(path, found.fd, found.stat, entry);
    } finally {
      closeSync(found.fd);
    }
  }

  #putFile(path: BytePath, fd: number, stat: Stats, entry: IndexEntry | undefined): boolean {
    const trusted = this.#isClean(entry, stat, undefined);
    const hash = entry === undefined || trusted ? undefined : this.#hash(stat.size);
    const stored = this.#writer.store(stat.size, (buffer) => {
      const length = readNext(fd, buffer);
      hash?.update(buffer.subarray(0, length));
      return length;
    });
    if (stored === undefined) return false;
    if (changedSince(stat, fd)) {
      this.#writer.discard(stored);
      return false;
    }
    this.#addFile(path, stat, stored, trusted || (hash !== undefined && hash.digest('hex') === entry?.oid));
    return true;
  }

  #addFile(path: BytePath, stat: Stats, stored: StoredData, clean: boolean): void {
    const facts = factsOf(stat);
    this.#writer.addFile(path, facts, stored);
    this.#note(path, facts, stat.size, clean);
  }

  #note(path: BytePath, { mtimeSeconds }: FileFacts, sizeBytes: number, clean: boolean): void {
    this.files += 1;
    this.bytes += sizeBytes;
    this.newestSeconds = Math.max(this.newestSeconds, mtimeSeconds);
    if (clean) this.clean.set(path, { mtimeSeconds, sizeBytes });
  }

  /**
   * Git's own test, made stricter: the file's times, size and inode are those of the index, and it is older than the
   * index by whole seconds. Else its contents decide, when they are at hand: bytes equal to the stored object's are
   * clean, whatever conversion the repository asks for.
   */
  #isClean(entry: IndexEntry | undefined, stat: Stats, oid: (() => string) | undefined): boolean {
    if (entry === undefined || entry.stage !== 0 || entry.intentToAdd) return false;
    const known = entry.stat;
    if (
      known !== undefined &&
      known.mtimeMs === stat.mtimeMs &&
      known.ctimeMs === stat.ctimeMs &&
      known.sizeBytes === stat.size % 2 ** 32 &&
      known.ino === stat.ino % 2 ** 32 &&
      stat.mtimeMs < this.#options.indexSeconds * 1000
    ) {
      return true;
    }
    return oid?.() === entry.oid;
  }

  #hash(size: number): Hash {
    return createHash(this.#options.objectFormat).update(`blob ${size}\0`);
  }
}

function changedSince(before: Stats, fd: number): boolean {
  const after = fstatSync(fd);
  return after.size !== before.size || after.mtimeMs !== before.mtimeMs || after.ctimeMs !== before.ctimeMs;
}
