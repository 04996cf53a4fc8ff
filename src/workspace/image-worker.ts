/**
 * The worker thread that writes a workspace image: it reads thousands of files one after the other, which would keep
 * the daemon from answering. Files first, while git packs its objects; then `.git`.
 */

import assert from 'node:assert/strict';
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { BangerError, errorText } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { bytePath } from './byte-path.ts';
import { encodeGitIndex } from './git-index.ts';
import { EMPTY_GIT_DIRECTORIES, type GitFile } from './guest-git.ts';
import type { GitFilesReady, ImageAnswer, ImageJob } from './image-job.ts';
import { type ShippedFiles, shipFiles } from './ship-files.ts';
import { type FileFacts, SquashfsWriter } from './squashfs/image-writer.ts';
import { readNext } from './tree-reader.ts';

const PROGRESS_EVERY_FILES = 250;

const port = parentPort;
assert(port !== null, 'this module is a worker');
const job = workerData as ImageJob;
const cancelled = new Int32Array(job.cancelled);
const gitFilesReady = new Promise<GitFilesReady>((resolve) => {
  port.once('message', (message: GitFilesReady) => resolve(message));
});

function answer(message: ImageAnswer): void {
  port?.postMessage(message);
}

function checkCancelled(): void {
  if (Atomics.load(cancelled, 0) !== 0)
    throw new BangerError('cancelled', 'shipping the workspace was cancelled');
}

async function writeImage(fd: number): Promise<void> {
  const { writer, shipped } = shipFiles((root) => new SquashfsWriter(fd, root), {
    ...job,
    onFile: (files) => {
      checkCancelled();
      if (files % PROGRESS_EVERY_FILES === 0) answer({ kind: 'progress', files });
    },
  });
  const { gitFiles } = await gitFilesReady;
  checkCancelled();
  // Newer than every file: git looks again at files that are as young as its index.
  const mtimeSeconds = Math.max(Math.floor(Date.now() / 1000), shipped.newestSeconds + 1);
  addGitDirectory(writer, gitFiles, shipped, mtimeSeconds);
  answer({ kind: 'done', sizeBytes: writer.finish(), files: shipped.files, bytes: shipped.bytes });
}

function addGitDirectory(
  writer: SquashfsWriter,
  gitFiles: readonly GitFile[],
  shipped: ShippedFiles,
  mtimeSeconds: number,
): void {
  for (const path of EMPTY_GIT_DIRECTORIES)
    writer.addDirectory(`.git/${path}`, { mode: 0o755, mtimeSeconds });
  const index = encodeGitIndex(job.entries, (entry) => shipped.clean.get(entry.path), job.objectFormat);
  addBytes(writer, '.git/index', index, { mode: 0o644, mtimeSeconds });
  for (const file of gitFiles) {
    checkCancelled();
    const path = `.git/${bytePath(file.path)}`;
    if ('content' in file) addBytes(writer, path, Buffer.from(file.content), { mode: 0o644, mtimeSeconds });
    else addHostFile(writer, path, file.hostPath, { mode: 0o444, mtimeSeconds });
  }
}

function addBytes(writer: SquashfsWriter, path: string, bytes: Buffer, facts: FileFacts): void {
  let at = 0;
  const stored = writer.store(bytes.length, (buffer) => {
    const length = bytes.copy(buffer, 0, at);
    at += length;
    return length;
  });
  assert(stored !== undefined);
  writer.addFile(path, facts, stored);
}

function addHostFile(writer: SquashfsWriter, path: string, hostPath: string, facts: FileFacts): void {
  const fd = openSync(hostPath, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const stored = writer.store(fstatSync(fd).size, (buffer) => {
      checkCancelled();
      return readNext(fd, buffer);
    });
    assert(stored !== undefined, `${hostPath} shrank`);
    writer.addFile(path, facts, stored);
  } finally {
    closeSync(fd);
  }
}

function failure(error: unknown): ImageAnswer {
  const isSystemError = error instanceof Error && 'errno' in error;
  const known = isSystemError ? fileError(`cannot write ${job.imagePath}`, error) : error;
  if (!(known instanceof BangerError)) return { kind: 'failed', code: 'internal', message: errorText(error) };
  const { code, message, hint } = known;
  return { kind: 'failed', code, message, ...(hint === undefined ? {} : { hint }) };
}

try {
  const fd = openSync(job.imagePath, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    // Another name is another VM's disk, or a snapshot's.
    assert(fstatSync(fd).nlink === 1, `${job.imagePath} is not this VM's alone`);
    await writeImage(fd);
  } finally {
    closeSync(fd);
  }
} catch (error) {
  answer(failure(error));
} finally {
  port.close();
}
