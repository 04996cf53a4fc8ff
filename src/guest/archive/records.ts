/**
 * The records of docs/agent-protocol.md ("Archives"): a tree of files, or changes to one, as they travel to and from a guest.
 * The same numbers are in guest/src/archive.h.
 */

export const ARCHIVE_KINDS = {
  end: 0,
  directory: 1,
  file: 2,
  symlink: 3,
  delete: 4,
  check: 5,
  checkContent: 6,
  conflict: 7,
  skipped: 8,
} as const;

export const MAX_ARCHIVE_PATH_BYTES = 4095;
export const MAX_ARCHIVE_NAME_BYTES = 255;
export const MAX_ARCHIVE_DEPTH = 256;
/** Of a file that is checked byte for byte. */
export const MAX_ARCHIVE_CONTENT_BYTES = 4096;
/** For a file whose size is not known ahead. */
export const UNKNOWN_SIZE_BYTES = Number.MAX_SAFE_INTEGER;

/** Why a path is not what the host thinks it is. */
export const CONFLICT_REASONS = ['changed', 'deleted', 'exists', 'content'] as const;
export type ConflictReason = (typeof CONFLICT_REASONS)[number];
/** Why something was not sent: a device, socket or FIFO; a view of the kernel's state such as /proc. */
export const SKIP_REASONS = ['special', 'mount'] as const;
export type SkipReason = (typeof SKIP_REASONS)[number];

/**
 * Paths are bytes: relative, at most 4095, no component empty, `.`, `..` or over 255 bytes, at most 256 components. Modes are the lowest
 * twelve bits of st_mode. Times are in ns since 1970.
 */
export type ArchiveRecord =
  | DirectoryRecord
  | FileRecord
  | FileDataRecord
  | FileEndRecord
  | SymlinkRecord
  | DeleteRecord
  | CheckRecord
  | CheckContentRecord
  | ConflictRecord
  | SkippedRecord;

/**
 * Made if missing. One that this archive has made gets mode and time, and so comes after what is in it; one that was there before keeps
 * its own. Missing parents of anything are made 0755.
 */
export interface DirectoryRecord {
  readonly kind: 'directory';
  readonly path: Buffer;
  readonly mode: number;
  readonly mtimeNs: bigint;
}

/** Its data and its end follow, and nothing else in between. */
export interface FileRecord {
  readonly kind: 'file';
  readonly path: Buffer;
  readonly mode: number;
  readonly mtimeNs: bigint;
  /** The most it may turn out to have. */
  readonly sizeBytes: number;
}

/** In the order of offsets; what no data covers is a hole, and reads as zeros. */
export interface FileDataRecord {
  readonly kind: 'data';
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface FileEndRecord {
  readonly kind: 'fileEnd';
  /** What it has. */
  readonly sizeBytes: number;
}

export interface SymlinkRecord {
  readonly kind: 'symlink';
  readonly path: Buffer;
  /** 1 to 4095 bytes, whatever they lead to. */
  readonly target: Buffer;
  readonly mtimeNs: bigint;
}

/** A file, a link or a whole tree; nothing there is no error. To the guest only. */
export interface DeleteRecord {
  readonly kind: 'delete';
  readonly path: Buffer;
  /** The directories above it too, up to the base, as long as they have become empty. */
  readonly deleteEmptyParents: boolean;
}

/**
 * What is at the path is as it was shipped: it has the mark of UNPACK's flag and is what it was then, or lies in the lower layer only.
 * Of a directory: everything in it. To the guest only, before anything else.
 */
export interface CheckRecord {
  readonly kind: 'check';
  readonly path: Buffer;
  /** True: it was shipped before, and must be there. False: it is new, and may be absent. */
  readonly isShipped: boolean;
}

/** The file has exactly these bytes; undefined: there is nothing at the path. To the guest only, before anything else. */
export interface CheckContentRecord {
  readonly kind: 'checkContent';
  readonly path: Buffer;
  readonly content: Uint8Array | undefined;
}

/** From the guest only: the answer to checks. */
export interface ConflictRecord {
  readonly kind: 'conflict';
  readonly path: Buffer;
  readonly reason: ConflictReason;
}

/** From the guest only. */
export interface SkippedRecord {
  readonly kind: 'skipped';
  readonly path: Buffer;
  readonly reason: SkipReason;
}

const SLASH = 0x2f;
const DOT = 0x2e;

/** Whether a path may stand in a record. */
export function isArchivePath(path: Uint8Array): boolean {
  if (path.length > MAX_ARCHIVE_PATH_BYTES || path.includes(0)) return false;
  let from = 0;
  for (let depth = 1; depth <= MAX_ARCHIVE_DEPTH; depth++) {
    const slash = path.indexOf(SLASH, from);
    const end = slash === -1 ? path.length : slash;
    const length = end - from;
    if (length === 0 || length > MAX_ARCHIVE_NAME_BYTES) return false;
    if (path[from] === DOT && (length === 1 || (length === 2 && path[from + 1] === DOT))) return false;
    if (slash === -1) return true;
    from = end + 1;
  }
  return false;
}

/** What is called `name` in a directory, which may have been given as `a/` or `a/.`: with one slash between them. */
export function pathBelow(directory: Buffer, name: Buffer): Buffer {
  let end = directory.length;
  while (directory[end - 1] === SLASH || (directory[end - 1] === DOT && directory[end - 2] === SLASH)) end--;
  return Buffer.concat([directory.subarray(0, end), Buffer.of(SLASH), name]);
}
