/** Bytes of a hostile guest into records, as they come. */

import {
  ARCHIVE_KINDS,
  type ArchiveRecord,
  CONFLICT_REASONS,
  isArchivePath,
  MAX_ARCHIVE_PATH_BYTES,
  SKIP_REASONS,
} from './records.ts';

/** The guest broke the format: nothing that follows can be believed. */
export class ArchiveError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ArchiveError';
  }
}

export interface ArchiveLimits {
  /** Records in all, a file with its data counting once. */
  readonly maxRecords: number;
  /** Bytes of files' data in all. */
  readonly maxDataBytes: number;
}

const SEGMENT_HEADER_BYTES = 12;
const MODE_BITS = 0o7777;

/** A file that is being read: where its next segment may begin, and what is left of this one. */
interface OpenFile {
  readonly sizeBytes: number;
  end: number;
  segmentLeft: number;
}

export class ArchiveDecoder {
  readonly #limits: ArchiveLimits;
  #pending: Buffer = Buffer.alloc(0);
  #file: OpenFile | undefined;
  #records = 0;
  #dataBytes = 0;
  #isEnded = false;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** The end was read: nothing may follow. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /**
   * The records that are complete with these bytes; of data, what has come. Their bytes are views of `chunk`.
   * @throws {ArchiveError}
   */
  *push(chunk: Uint8Array): Generator<ArchiveRecord, void, undefined> {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    let bytes = this.#pending.length === 0 ? view : Buffer.concat([this.#pending, view]);
    this.#pending = Buffer.alloc(0);
    while (bytes.length > 0) {
      if (this.#isEnded) throw new ArchiveError('bytes follow the end');
      const fields = new Fields(bytes);
      const record = this.#next(fields);
      if (record === 'incomplete') {
        // A copy: the chunk it is part of may be large, and what is incomplete is short.
        this.#pending = Buffer.from(bytes);
        return;
      }
      bytes = bytes.subarray(fields.taken);
      if (record !== undefined) yield record;
    }
  }

  /** @throws {ArchiveError} the end has not come */
  finish(): void {
    if (!this.#isEnded) throw new ArchiveError('it ends too early');
  }

  /** One record from the front, or undefined for a header that is none by itself. */
  #next(fields: Fields): ArchiveRecord | 'incomplete' | undefined {
    if (this.#file !== undefined) return this.#nextOfFile(fields, this.#file);
    const record = readRecord(fields);
    if (record === 'incomplete') return record;
    if (record === 'end') {
      this.#isEnded = true;
      return undefined;
    }
    this.#records++;
    if (this.#records > this.#limits.maxRecords) throw new ArchiveError('it has too many entries');
    if (record.kind === 'file') this.#file = { sizeBytes: record.sizeBytes, end: 0, segmentLeft: 0 };
    return record;
  }

  #nextOfFile(fields: Fields, file: OpenFile): ArchiveRecord | 'incomplete' | undefined {
    if (file.segmentLeft > 0) {
      const bytes = fields.some(file.segmentLeft);
      const offset = file.end;
      file.end += bytes.length;
      file.segmentLeft -= bytes.length;
      return { kind: 'data', offset, bytes };
    }
    if (fields.left < SEGMENT_HEADER_BYTES) return 'incomplete';
    const offset = fields.u64();
    const length = fields.u32();
    if (offset < file.end || offset + length > file.sizeBytes) {
      throw new ArchiveError('a segment does not fit its file');
    }
    if (length === 0) {
      this.#file = undefined;
      return { kind: 'fileEnd', sizeBytes: offset };
    }
    this.#dataBytes += length;
    if (this.#dataBytes > this.#limits.maxDataBytes) throw new ArchiveError('it has too many bytes');
    file.end = offset;
    file.segmentLeft = length;
    return undefined;
  }
}

/** Numbers and texts from the front of a buffer. Asked for more than there is, it throws `Incomplete`. */
class Fields {
  taken = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.taken;
  }

  u8(): number {
    return this.#take(1).readUInt8();
  }

  u16(): number {
    return this.#take(2).readUInt16LE();
  }

  u32(): number {
    return this.#take(4).readUInt32LE();
  }

  u64(): number {
    const value = this.#take(8).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new ArchiveError('a size is beyond all measure');
    return Number(value);
  }

  i64(): bigint {
    return this.#take(8).readBigInt64LE();
  }

  mode(): number {
    const value = this.u32();
    if ((value & ~MODE_BITS) !== 0) throw new ArchiveError('a mode has unknown bits');
    return value;
  }

  /** 1 to 4095 bytes without NUL, copied. */
  text(): Buffer {
    const length = this.u16();
    if (length === 0 || length > MAX_ARCHIVE_PATH_BYTES) throw new ArchiveError('a text has a bad length');
    const bytes = Buffer.from(this.#take(length));
    if (bytes.includes(0)) throw new ArchiveError('a text has a NUL in it');
    return bytes;
  }

  path(): Buffer {
    const path = this.text();
    if (!isArchivePath(path)) throw new ArchiveError('a path leads elsewhere, or is too deep');
    return path;
  }

  /** Up to `count` bytes, at least one. */
  some(count: number): Buffer {
    return this.#take(Math.min(count, this.left));
  }

  #take(count: number): Buffer {
    if (this.left < count) throw new Incomplete();
    this.taken += count;
    return this.#bytes.subarray(this.taken - count, this.taken);
  }
}

class Incomplete extends Error {}

function readRecord(fields: Fields): ArchiveRecord | 'incomplete' | 'end' {
  try {
    return readComplete(fields);
  } catch (error) {
    if (error instanceof Incomplete) return 'incomplete';
    throw error;
  }
}

function readComplete(fields: Fields): ArchiveRecord | 'end' {
  const kind = fields.u8();
  if (kind === ARCHIVE_KINDS.end) return 'end';
  switch (kind) {
    case ARCHIVE_KINDS.directory:
      return { kind: 'directory', path: fields.path(), mode: fields.mode(), mtimeNs: fields.i64() };
    case ARCHIVE_KINDS.file: {
      const path = fields.path();
      return { kind: 'file', path, mode: fields.mode(), mtimeNs: fields.i64(), sizeBytes: fields.u64() };
    }
    case ARCHIVE_KINDS.symlink:
      return { kind: 'symlink', path: fields.path(), target: fields.text(), mtimeNs: fields.i64() };
    case ARCHIVE_KINDS.conflict:
      return { kind: 'conflict', path: fields.path(), reason: reason(CONFLICT_REASONS, fields.u8()) };
    case ARCHIVE_KINDS.skipped:
      return { kind: 'skipped', path: fields.path(), reason: reason(SKIP_REASONS, fields.u8()) };
    default:
      throw new ArchiveError(`a guest has no records of kind ${kind}`);
  }
}

/** Reasons are numbered from 1. */
function reason<T>(reasons: readonly T[], number: number): T {
  const found = reasons[number - 1];
  if (found === undefined) throw new ArchiveError(`an unknown reason: ${number}`);
  return found;
}
