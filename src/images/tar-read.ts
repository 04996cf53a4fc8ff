/**
 * Reads tar archives entry by entry. Source: pax(1) "ustar Interchange Format" and "pax Header File Format" of POSIX,
 * tar(5) of FreeBSD for GNU long names and base-256 numbers.
 *
 * Not modern-tar: that one decodes names and attribute values as UTF-8, which damages capabilities and odd file names.
 * Here both stay bytes; names are strings of code units 0-255 (Buffer encoding `latin1`).
 */

import { BangerError } from '../core/errors.ts';
import { ByteReader } from './byte-reader.ts';
import { parsePaxRecords, type PaxRecords } from './tar-pax.ts';

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface TarEntry {
  readonly type: TarEntryType;
  /** As in the archive, one code unit per byte. */
  readonly name: string;
  /** Target of a hard or symbolic link, likewise. */
  readonly linkName: string;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly sizeBytes: number;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** The file's bytes; to be read before the next entry is asked for, or left: what is left is skipped. */
  readonly content: AsyncIterable<Uint8Array>;
}

const BLOCK_BYTES = 512;
const MAX_EXTENSION_BYTES = 1024 * 1024;
const MAX_NAME_BYTES = 4096;
const TYPES: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/**
 * The entries of an archive in order.
 * @throws {BangerError} `bad_request` when the archive is damaged, cut off, or uses what is not supported (sparse files)
 */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(source);
  let pax: PaxRecords = new Map();
  let longName: string | undefined;
  let longLink: string | undefined;
  for (;;) {
    const block = await reader.exactly(BLOCK_BYTES);
    if (block === undefined || block.every((byte) => byte === 0)) return;
    const header = parseHeader(block);
    const extension = 'xgLK'.includes(header.typeFlag) ? await readExtension(reader, header) : undefined;
    if (extension !== undefined) {
      if (header.typeFlag === 'x') pax = parsePaxRecords(extension);
      if (header.typeFlag === 'L') longName = cString(extension);
      if (header.typeFlag === 'K') longLink = cString(extension);
      continue;
    }
    const entry = toEntry(header, pax, longName, longLink);
    const content = contentOf(reader, entry.sizeBytes);
    yield { ...entry, content: content.chunks };
    await content.skipRest();
    pax = new Map();
    longName = undefined;
    longLink = undefined;
  }
}

interface Header {
  readonly typeFlag: string;
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
}

function parseHeader(block: Buffer): Header {
  let sum = 0;
  for (let at = 0; at < BLOCK_BYTES; at++) sum += at >= 148 && at < 156 ? 0x20 : (block[at] ?? 0);
  if (sum !== number(block, 148, 8)) throw damaged('a header has a wrong checksum');
  const isUstar = block.toString('latin1', 257, 262) === 'ustar';
  // GNU archives say "ustar  " and use the prefix field for other things.
  const prefix = isUstar && block[262] === 0 ? cString(block.subarray(345, 500)) : '';
  const name = cString(block.subarray(0, 100));
  return {
    typeFlag: String.fromCharCode(block[156] ?? 0),
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: cString(block.subarray(157, 257)),
    mode: number(block, 100, 8),
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    size: number(block, 124, 12),
    mtime: number(block, 136, 12),
    major: isUstar ? number(block, 329, 8) : 0,
    minor: isUstar ? number(block, 337, 8) : 0,
  };
}

/** A numeric field: octal text, or base-256 when the top bit of its first byte is set (tar(5)). */
function number(block: Buffer, offset: number, length: number): number {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = 0n;
    for (let at = offset; at < offset + length; at++) {
      value = (value << 8n) | BigInt(at === offset ? first & 0x7f : (block[at] ?? 0));
    }
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged('a number is out of range');
    return Number(value);
  }
  const text = cString(block.subarray(offset, offset + length)).trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw damaged('a number is not octal');
  return Number.parseInt(text, 8);
}

async function readExtension(reader: ByteReader, header: Header): Promise<Buffer> {
  if (header.size > MAX_EXTENSION_BYTES) throw damaged('an extended header is too large');
  const padded = Math.ceil(header.size / BLOCK_BYTES) * BLOCK_BYTES;
  const bytes = await reader.exactly(padded);
  if (bytes === undefined && padded > 0) throw damaged('it is cut off');
  return Buffer.from((bytes ?? Buffer.alloc(0)).subarray(0, header.size));
}

const XATTR_PREFIX = 'SCHILY.xattr.';

function toEntry(
  header: Header,
  pax: PaxRecords,
  longName?: string,
  longLink?: string,
): Omit<TarEntry, 'content'> {
  const type = TYPES[header.typeFlag];
  if (type === undefined || pax.has('GNU.sparse.major') || pax.has('GNU.sparse.map')) {
    throw new BangerError(
      'unsupported',
      `the tar archive has an entry of a kind banger cannot unpack: ${header.name}`,
    );
  }
  const text = (key: string) => pax.get(key)?.toString('latin1');
  const numeric = (key: string, otherwise: number) => {
    const value = text(key);
    if (value === undefined) return otherwise;
    const parsed = Number(value);
    if (!Number.isFinite(parsed) || Math.abs(parsed) > Number.MAX_SAFE_INTEGER)
      throw damaged(`${key} is no number`);
    return Math.floor(parsed);
  };
  const name = text('path') ?? longName ?? header.name;
  const linkName = text('linkpath') ?? longLink ?? header.linkName;
  if (name.length > MAX_NAME_BYTES || linkName.length > MAX_NAME_BYTES) throw damaged('a name is too long');
  const xattrs = new Map<string, Buffer>();
  for (const [key, value] of pax)
    if (key.startsWith(XATTR_PREFIX)) xattrs.set(key.slice(XATTR_PREFIX.length), value);
  const sizeBytes = type === 'file' ? numeric('size', header.size) : 0;
  if (sizeBytes < 0) throw damaged('a size is negative');
  return {
    type,
    name,
    linkName,
    mode: header.mode & 0o7777,
    uid: numeric('uid', header.uid),
    gid: numeric('gid', header.gid),
    mtimeSeconds: numeric('mtime', header.mtime),
    sizeBytes,
    major: header.major,
    minor: header.minor,
    xattrs,
  };
}

function contentOf(reader: ByteReader, sizeBytes: number) {
  let left = sizeBytes;
  const padding = (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    while (left > 0) {
      const chunk = await reader.some(left);
      if (chunk === undefined) throw damaged('it is cut off');
      left -= chunk.length;
      yield chunk;
    }
  }
  async function skipRest(): Promise<void> {
    for await (const _ of chunks());
    if (padding > 0 && (await reader.exactly(padding)) === undefined) throw damaged('it is cut off');
  }
  return { chunks: chunks(), skipRest };
}

function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}

function damaged(why: string): BangerError {
  return new BangerError('bad_request', `the tar archive is damaged: ${why}`);
}
