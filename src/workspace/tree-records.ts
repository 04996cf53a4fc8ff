/** The files of a working tree as the records of an archive that makes a copy of it. */

import { closeSync, fstatSync, type Stats } from 'node:fs';
import { BangerError } from '../core/errors.ts';
import { type ArchiveRecord, isArchivePath } from '../guest/archive/records.ts';
import { type BytePath, bytesOf, displayPath } from './byte-path.ts';
import { factsOf } from './ship-files.ts';
import { readNext, TreeReader } from './tree-reader.ts';
import { timeOf } from './update-records.ts';

export interface TreeContent {
  readonly rootPath: string;
  /** Those that are gone, or no files or links any more, are left out. */
  readonly paths: Iterable<BytePath>;
  /** Where the tree goes, below the archive's base: empty, or a path with a slash at its end. */
  readonly prefix: BytePath;
  readonly onFile: () => void;
}

const ATTEMPTS = 3;
const CHUNK_BYTES = 256 * 1024;

/**
 * Directories come last, with their times and modes.
 * @throws {BangerError} `io_error`: a file that never holds still
 */
export function* treeRecords(content: TreeContent): Generator<ArchiveRecord, void, undefined> {
  const { rootPath, paths, prefix, onFile } = content;
  const directories = new Map<BytePath, Stats>();
  const reader = new TreeReader(rootPath, ({ path, stat }) => directories.set(path, stat));
  try {
    for (const path of paths) {
      yield* stillRecords(reader, path, bytesOf(`${prefix}${path}`));
      onFile();
    }
  } finally {
    reader.close();
  }
  const deepestFirst = [...directories].sort(([one], [other]) => other.length - one.length);
  for (const [path, stat] of deepestFirst) {
    const { mode } = factsOf(stat);
    yield { kind: 'directory', path: bytesOf(`${prefix}${path}`), mode, mtimeNs: timeOf(stat) };
  }
}

/** One that changed while it was read is sent again, and takes the place of what was sent before. */
function* stillRecords(
  reader: TreeReader,
  path: BytePath,
  target: Buffer,
): Generator<ArchiveRecord, void, undefined> {
  if (!isArchivePath(target))
    throw new BangerError('bad_request', `the path is too long: ${displayPath(path)}`);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const found = reader.open(path);
    if (found === undefined) {
      if (attempt > 1) yield { kind: 'delete', path: target, deleteEmptyParents: false };
      return;
    }
    if (found.kind === 'symlink') {
      yield { kind: 'symlink', path: target, target: found.target, mtimeNs: timeOf(found.stat) };
      return;
    }
    try {
      if (yield* fileRecords(target, found.fd, found.stat)) return;
    } finally {
      closeSync(found.fd);
    }
  }
  throw new BangerError('io_error', `${displayPath(path)} changed each time it was read`, {
    hint: 'something is writing to it; run the command again when that is done',
  });
}

/** @returns false: it changed meanwhile */
function* fileRecords(path: Buffer, fd: number, before: Stats): Generator<ArchiveRecord, boolean, undefined> {
  const { mode } = factsOf(before);
  yield { kind: 'file', path, mode, mtimeNs: timeOf(before), sizeBytes: before.size };
  let offset = 0;
  while (offset < before.size) {
    const bytes = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, before.size - offset));
    const length = readNext(fd, bytes);
    if (length === 0) break;
    yield { kind: 'data', offset, bytes: bytes.subarray(0, length) };
    offset += length;
  }
  yield { kind: 'fileEnd', sizeBytes: offset };
  const after = fstatSync(fd);
  return offset === after.size && after.mtimeMs === before.mtimeMs && after.ctimeMs === before.ctimeMs;
}
