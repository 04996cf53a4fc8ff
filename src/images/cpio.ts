/**
 * Writes cpio archives in the "new ASCII" format, the one the kernel unpacks as an initramfs. Pure and deterministic:
 * the same entries give the same bytes. Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
 */

import assert from 'node:assert/strict';

export type CpioEntry =
  | { readonly type: 'directory'; readonly path: string; readonly mode: number }
  | { readonly type: 'file'; readonly path: string; readonly mode: number; readonly data: Uint8Array }
  | {
      readonly type: 'character-device';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const HEADER_BYTES = 110;
const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const FILE_TYPES = { directory: 0o040000, file: 0o100000, 'character-device': 0o020000 } as const;
const MAX_FIELD = 0xffff_ffff;

/** An archive of the entries in the order given; parents must come before what is in them. Everything belongs to root. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, index) => {
    assert(/^[^/\0][^\0]*$/.test(entry.path), `a cpio path is relative and not empty: ${entry.path}`);
    parts.push(...entryParts(entry, index + 1));
  });
  parts.push(...padded(header({ name: TRAILER, inode: 0, mode: 0, links: 1, size: 0, major: 0, minor: 0 })));
  return Buffer.concat(parts);
}

function entryParts(entry: CpioEntry, inode: number): Uint8Array[] {
  const data = entry.type === 'file' ? entry.data : new Uint8Array();
  const head = header({
    name: entry.path,
    inode,
    mode: FILE_TYPES[entry.type] | (entry.mode & 0o7777),
    links: entry.type === 'directory' ? 2 : 1,
    size: data.length,
    major: entry.type === 'character-device' ? entry.major : 0,
    minor: entry.type === 'character-device' ? entry.minor : 0,
  });
  return [...padded(head), ...padded(data)];
}

interface HeaderFields {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
}

function header(fields: HeaderFields): Uint8Array {
  const name = Buffer.from(`${fields.name}\0`, 'utf8');
  const numbers = [
    fields.inode,
    fields.mode,
    0, // uid
    0, // gid
    fields.links,
    0, // mtime: none, so that the bytes depend on the content alone
    fields.size,
    0, // major and minor of the device that holds the file
    0,
    fields.major,
    fields.minor,
    name.length,
    0, // checksum: used by another variant of the format
  ];
  const text = MAGIC + numbers.map(hexField).join('');
  assert.equal(text.length, HEADER_BYTES);
  return Buffer.concat([Buffer.from(text, 'latin1'), name]);
}

function hexField(value: number): string {
  assert(Number.isInteger(value) && value >= 0 && value <= MAX_FIELD, `cpio field out of range: ${value}`);
  return value.toString(16).toUpperCase().padStart(8, '0');
}

/** Header with name, and data, are each padded with NULs to four bytes. */
function padded(bytes: Uint8Array): Uint8Array[] {
  const rest = bytes.length % 4;
  return rest === 0 ? [bytes] : [bytes, new Uint8Array(4 - rest)];
}
