/** Records into bytes. */

import assert from 'node:assert/strict';
import {
  ARCHIVE_KINDS,
  type ArchiveRecord,
  isArchivePath,
  MAX_ARCHIVE_CONTENT_BYTES,
  MAX_ARCHIVE_PATH_BYTES,
} from './records.ts';

/** Small records are sent together in pieces of about this size. */
const PIECE_BYTES = 64 * 1024;
/** Bytes from here on are passed on as they are, not copied. */
const LARGE_BYTES = 16 * 1024;
const MODE_BITS = 0o7777;
const FILE_END_LENGTH = 0;

/** The bytes of an archive with its end, in pieces to be sent one after another. */
export async function* encodeArchive(
  records: AsyncIterable<ArchiveRecord> | Iterable<ArchiveRecord>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const record of records) {
    for (const part of encodeRecord(record)) {
      parts.push(part);
      length += part.length;
    }
    if (length < PIECE_BYTES && (record.kind !== 'data' || record.bytes.length < LARGE_BYTES)) continue;
    yield* joined(parts);
    parts = [];
    length = 0;
  }
  parts.push(Uint8Array.of(ARCHIVE_KINDS.end));
  yield* joined(parts);
}

/** The small ones in one, each large one as it is. */
function* joined(parts: readonly Uint8Array[]): Generator<Uint8Array, void, undefined> {
  let small: Uint8Array[] = [];
  for (const part of parts) {
    if (part.length < LARGE_BYTES) {
      small.push(part);
      continue;
    }
    yield Buffer.concat(small);
    yield part;
    small = [];
  }
  if (small.length > 0) yield Buffer.concat(small);
}

/** One record; data as its header and its bytes, which must not change until they are sent. */
export function encodeRecord(record: ArchiveRecord): Uint8Array[] {
  switch (record.kind) {
    case 'directory':
      return [head(ARCHIVE_KINDS.directory, record.path), mode(record.mode), i64(record.mtimeNs)];
    case 'file':
      return [
        head(ARCHIVE_KINDS.file, record.path),
        mode(record.mode),
        i64(record.mtimeNs),
        u64(record.sizeBytes),
      ];
    case 'data':
      assert(record.bytes.length > 0, 'a segment without bytes would be the end of the file');
      return [segment(record.offset, record.bytes.length), record.bytes];
    case 'fileEnd':
      return [segment(record.sizeBytes, FILE_END_LENGTH)];
    case 'symlink':
      return [head(ARCHIVE_KINDS.symlink, record.path), text(record.target), i64(record.mtimeNs)];
    case 'delete':
      return [head(ARCHIVE_KINDS.delete, record.path), flag(record.deleteEmptyParents)];
    case 'check':
      return [head(ARCHIVE_KINDS.check, record.path), flag(record.isShipped)];
    case 'checkContent':
      return checkContent(record.path, record.content);
    case 'conflict':
    case 'skipped':
      assert.fail(`${record.kind} is what the guest says`);
  }
}

function head(kind: number, path: Uint8Array): Uint8Array {
  assert(isArchivePath(path), 'a path that no archive can have');
  return Buffer.concat([Uint8Array.of(kind), text(path)]);
}

function text(bytes: Uint8Array): Uint8Array {
  assert(bytes.length > 0 && bytes.length <= MAX_ARCHIVE_PATH_BYTES && !bytes.includes(0), 'a bad text');
  const encoded = Buffer.allocUnsafe(2 + bytes.length);
  encoded.writeUInt16LE(bytes.length);
  encoded.set(bytes, 2);
  return encoded;
}

function checkContent(path: Uint8Array, content: Uint8Array | undefined): Uint8Array[] {
  assert((content?.length ?? 0) <= MAX_ARCHIVE_CONTENT_BYTES, 'too long to be checked');
  const header = Buffer.alloc(3);
  header.writeUInt8(content === undefined ? 1 : 0);
  header.writeUInt16LE(content?.length ?? 0, 1);
  const parts: Uint8Array[] = [head(ARCHIVE_KINDS.checkContent, path), header];
  return content === undefined ? parts : [...parts, content];
}

function segment(offset: number, length: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(12);
  bytes.writeBigUInt64LE(BigInt(offset));
  bytes.writeUInt32LE(length, 8);
  return bytes;
}

function mode(value: number): Uint8Array {
  assert((value & ~MODE_BITS) === 0, 'a mode has twelve bits');
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function flag(value: boolean): Uint8Array {
  return Uint8Array.of(value ? 1 : 0);
}

function u64(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function i64(value: bigint): Uint8Array {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64LE(value);
  return bytes;
}
