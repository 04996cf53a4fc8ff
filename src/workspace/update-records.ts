/** The archives that bring a copy in a guest up to date: what must be as it was shipped, then files, then git's own. */

import { closeSync, createReadStream, fstatSync, lstatSync, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { SHIPPED_REF } from '../core/model/workspace.ts';
import type { ArchiveRecord } from '../guest/archive/records.ts';
import { type BytePath, bytePath, bytesOf, displayPath } from './byte-path.ts';
import type { GitFile } from './guest-git.ts';
import { GITLINK_MODE } from './index-entries.ts';
import { factsOf } from './ship-files.ts';
import type { TreeChange, TreeEntry } from './tree-change.ts';
import { readNext, TreeReader } from './tree-reader.ts';

export interface FilesContent {
  readonly rootPath: string;
  readonly changes: readonly TreeChange[];
  /** What stands in the guest where something else is to be: deleted first, whatever it is. */
  readonly obstacles?: readonly BytePath[];
  /** As it was when it was read: at the end of each file and link. */
  readonly onFile: (path: BytePath, stat: Stats) => void;
}

export interface UpdateContent extends FilesContent {
  /** The commit that the guest's ref must name now; undefined: whatever it names. */
  readonly shippedBefore: string | undefined;
  /** What it names afterwards; undefined: that is not all yet. */
  readonly shippedNow: string | undefined;
  /** Paths that may be overwritten, whatever the guest has made of them. */
  readonly unchecked: ReadonlySet<BytePath>;
  /** Below `.git`, in the order they are written. Awaited only once the files are on their way. */
  readonly gitFiles: Promise<readonly GitFile[]>;
}

const NS_PER_SECOND = 1_000_000_000n;
const CHUNK_BYTES = 256 * 1024;

/** A path that is to be put and is not there any more is left as it is: the next look at the repository finds it deleted. */
export function withoutVanished(rootPath: string, changes: readonly TreeChange[]): readonly TreeChange[] {
  const root = bytePath(rootPath);
  return changes.filter(
    ({ path, to }) =>
      to === null || lstatSync(bytesOf(`${root}/${path}`), { throwIfNoEntry: false }) !== undefined,
  );
}

/** @throws {BangerError} `io_error`: a file changed while it was read; it does not appear in the guest then */
export async function* updateRecords(content: UpdateContent): AsyncGenerator<ArchiveRecord, void, undefined> {
  const { changes, unchecked, shippedBefore, shippedNow } = content;
  if (shippedBefore !== undefined) yield shippedCheck(shippedBefore);
  const isKept = keptSubmodules(content);
  yield* checkRecords(changes.filter(({ path }) => !unchecked.has(path) && !isKept.has(path)));
  yield* fileRecords(content);
  for (const file of await content.gitFiles) yield* gitFileRecords(file);
  // Last: as long as it names the state before, the guest is on its way.
  if (shippedNow !== undefined) yield* gitFileRecords({ path: SHIPPED_REF, content: `${shippedNow}\n` });
}

/** A file below `.git` of the guest, as it was when it was looked at; undefined: there was none. */
export interface FileSeen {
  readonly path: string;
  readonly content: Buffer | undefined;
}

export function* seenChecks(files: readonly FileSeen[]): Generator<ArchiveRecord, void, undefined> {
  for (const { path, content } of files) yield { kind: 'checkContent', path: gitPath(path), content };
}

/** The guest's ref names that commit. */
export function shippedCheck(commit: string): ArchiveRecord {
  return { kind: 'checkContent', path: gitPath(SHIPPED_REF), content: Buffer.from(`${commit}\n`) };
}

export function* checkRecords(changes: readonly TreeChange[]): Generator<ArchiveRecord, void, undefined> {
  for (const { path, from } of changes)
    yield { kind: 'check', path: bytesOf(path), isShipped: from !== null };
}

/**
 * What is in a submodule is checked and sent with it, as a repository of its own. One that the commit does not have any more, but
 * whose files are still there, stays in the copy, too.
 */
function keptSubmodules({ rootPath, changes }: FilesContent): ReadonlySet<BytePath> {
  const root = bytePath(rootPath);
  const isDirectory = (path: BytePath): boolean =>
    lstatSync(bytesOf(`${root}/${path}`), { throwIfNoEntry: false })?.isDirectory() === true;
  const kept = changes.filter(({ path, from, to }) =>
    isLink(to) ? from === null || isLink(from) : isLink(from) && to === null && isDirectory(path),
  );
  return new Set(kept.map(({ path }) => path));
}

function isLink(entry: TreeEntry | null): boolean {
  return entry?.mode === GITLINK_MODE;
}

/** @throws {BangerError} as `updateRecords` */
export function* fileRecords(content: FilesContent): Generator<ArchiveRecord, void, undefined> {
  const { rootPath, changes, obstacles = [], onFile } = content;
  for (const path of obstacles) yield { kind: 'delete', path: bytesOf(path), deleteEmptyParents: false };
  yield* placeRecords(changes, keptSubmodules(content));
  const reader = new TreeReader(rootPath, () => undefined);
  try {
    for (const { path, to } of changes) {
      const found = to === null ? undefined : reader.open(path);
      if (found === undefined) continue;
      if (found.kind === 'symlink') {
        yield { kind: 'symlink', path: bytesOf(path), target: found.target, mtimeNs: timeOf(found.stat) };
      } else {
        try {
          yield* wholeFile(path, found.fd, found.stat);
        } finally {
          closeSync(found.fd);
        }
      }
      onFile(path, found.stat);
    }
  } finally {
    reader.close();
  }
}

/** What is in the way is deleted first: it may stand where a directory is to be. */
function* placeRecords(
  changes: readonly TreeChange[],
  isKept: ReadonlySet<BytePath>,
): Generator<ArchiveRecord, void, undefined> {
  for (const { path, from, to } of changes) {
    const isDeleted = to === null || isLink(from) !== isLink(to);
    if (isDeleted && from !== null && !isKept.has(path))
      yield { kind: 'delete', path: bytesOf(path), deleteEmptyParents: to === null };
  }
  for (const { path, from, to } of changes) {
    if (!isLink(to) || isLink(from)) continue;
    yield { kind: 'directory', path: bytesOf(path), mode: 0o755, mtimeNs: BigInt(Date.now()) * 1_000_000n };
  }
}

function* wholeFile(path: BytePath, fd: number, before: Stats): Generator<ArchiveRecord, void, undefined> {
  const { mode } = factsOf(before);
  yield { kind: 'file', path: bytesOf(path), mode, mtimeNs: timeOf(before), sizeBytes: before.size };
  let offset = 0;
  while (offset < before.size) {
    const bytes = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, before.size - offset));
    const length = readNext(fd, bytes);
    if (length === 0) break;
    yield { kind: 'data', offset, bytes: bytes.subarray(0, length) };
    offset += length;
  }
  const after = fstatSync(fd);
  if (offset !== after.size || after.mtimeMs !== before.mtimeMs || after.ctimeMs !== before.ctimeMs) {
    throw new BangerError('io_error', `${displayPath(path)} changed while it was read`, {
      hint: 'run the command again when nothing writes to it',
    });
  }
  yield { kind: 'fileEnd', sizeBytes: offset };
}

/** Whole seconds, as the image of a first shipping has them. */
export function timeOf(stats: Stats): bigint {
  return BigInt(factsOf(stats).mtimeSeconds) * NS_PER_SECOND;
}

/** One file below `.git`. */
export async function* gitFileRecords(file: GitFile): AsyncGenerator<ArchiveRecord, void, undefined> {
  const path = gitPath(file.path);
  const mtimeNs = BigInt(Date.now()) * 1_000_000n;
  if ('content' in file) {
    const bytes = Buffer.from(file.content);
    yield { kind: 'file', path, mode: 0o644, mtimeNs, sizeBytes: bytes.length };
    if (bytes.length > 0) yield { kind: 'data', offset: 0, bytes };
    yield { kind: 'fileEnd', sizeBytes: bytes.length };
    return;
  }
  const { size } = await stat(file.hostPath);
  yield { kind: 'file', path, mode: 0o444, mtimeNs, sizeBytes: size };
  let offset = 0;
  for await (const bytes of createReadStream(file.hostPath, { highWaterMark: CHUNK_BYTES })) {
    yield { kind: 'data', offset, bytes };
    offset += bytes.length;
  }
  yield { kind: 'fileEnd', sizeBytes: offset };
}

function gitPath(path: string): Buffer {
  return bytesOf(`.git/${bytePath(path)}`);
}
