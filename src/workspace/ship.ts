/** Writes the image of a planned workspace, while the guest that will mount it boots. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { BangerError } from '../core/errors.ts';
import { fileError, makeTemporaryDir, removeTree } from '../host/files.ts';
import type { CommandRunner } from '../host/runner.ts';
import { checkOutCommit } from './commit-checkout.ts';
import { type HostGit, hostGit } from './git.ts';
import { makeGuestGit } from './guest-git.ts';
import type { GitFilesReady, ImageAnswer, ImageJob } from './image-job.ts';
import type { WorkingTreeSource, WorkspacePlanData } from './plan.ts';
import { keepShippedIndex } from './shipped-record.ts';
import { stagedDigest } from './staged.ts';
import {
  type CommittedTree,
  commitWorkingTree,
  committedTree,
  hiddenEntries,
  type WorkingTreeFacts,
  workingTreeIndexPath,
} from './shipped-commit.ts';

export interface ShipProgress {
  readonly text: string;
  readonly done?: number;
  readonly total?: number;
}

export interface ShipOptions {
  readonly plan: WorkspacePlanData;
  /** An existing sparse file, at least as large as the image will be: written from offset 0, same inode, same size. */
  readonly imagePath: string;
  /** Temporary files go into a new directory in here, which is removed again. Made when missing. */
  readonly scratchDir: string;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: ShipProgress) => void;
  /** Where the index that goes with what was shipped is kept; on the file system of `scratchDir`. */
  readonly keepIndexAt?: string;
}

export interface ShippedImage {
  /** Bytes of the image file that are used. */
  readonly sizeBytes: number;
  /** Files and symbolic links of the working tree; not those of `.git`. */
  readonly files: number;
  readonly bytes: number;
  readonly shipped: CommittedTree;
  /** Digest of what is staged in the copy. */
  readonly staged: string;
}

type WrittenImage = Omit<ShippedImage, 'shipped' | 'staged'>;

/** Beside this file; bundled, beside the program. */
const WORKER_URL = import.meta.url.endsWith('.ts')
  ? new URL('./image-worker.ts', import.meta.url)
  : new URL('./image-worker.js', import.meta.url);

/**
 * Writes a squashfs image (uncompressed, everything owned by root) that holds the plan's files as they are now and a
 * shallow `.git`. The plan fixes which files, the commit and the index; contents are read here, each file as a whole: a
 * file that is gone meanwhile is left out, one that changes while it is read is read again.
 *
 * After a failure the image is invalid (it has no superblock), and nothing else is left.
 * @throws {BangerError} `cancelled`, `io_error` (a file that never holds still), `permission`, `limit_exceeded` (the
 *   image is full), `no_space`, `bad_request` (objects are missing)
 */
export async function buildWorkspaceImage(options: ShipOptions): Promise<ShippedImage> {
  const { plan, runner, signal, scratchDir } = options;
  throwIfCancelled(signal);
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const scratch = await makeTemporaryDir(join(scratchDir, 'workspace')).catch((error: unknown) => {
    throw fileError(`cannot use ${scratchDir}`, error);
  });
  const failed = new AbortController();
  try {
    const git = hostGit(runner, plan.sourcePath, AbortSignal.any([signal, failed.signal]));
    return await ship(git, options, scratch, failed);
  } finally {
    await removeTree(scratch, { below: scratchDir });
  }
}

/** The worker and git run side by side; the first to fail stops the other, and both have ended before this returns. */
async function ship(
  git: HostGit,
  options: ShipOptions,
  scratch: string,
  failed: AbortController,
): Promise<ShippedImage> {
  const { plan, signal } = options;
  const source =
    plan.source.kind === 'working-tree'
      ? { ...plan.source, rootPath: plan.sourcePath }
      : { ...(await checkOutCommit(git, plan.headCommit, plan.settings, scratch)), untracked: [] };
  const shipped =
    plan.source.kind === 'working-tree'
      ? commitWorkingTree(git, workingTreeFacts(plan, plan.source), scratch)
      : committedTree(git, plan.headCommit).then((found) => ({ ...found, changes: [] }));
  const gitFiles = shipped.then(async (state) => ({
    gitFiles: await makeGuestGit(git, { ...plan, entries: source.entries, shipped: state }, scratch),
  }));
  const image = runWorker(
    {
      imagePath: options.imagePath,
      rootPath: source.rootPath,
      entries: source.entries,
      untracked: source.untracked,
      indexSeconds: source.indexSeconds,
      objectFormat: plan.objectFormat,
    },
    gitFiles,
    signal,
    (files) => options.onProgress({ text: 'shipping the repository', done: files, total: plan.files }),
  );
  let reason: unknown;
  const stopTheOther = (error: unknown): never => {
    // The one that fails first says why: the other one only says that it was stopped.
    reason ??= error;
    failed.abort();
    throw error;
  };
  const [written] = await Promise.allSettled([image.catch(stopTheOther), gitFiles.catch(stopTheOther)]);
  throwIfCancelled(signal);
  if (written.status === 'fulfilled') {
    if (options.keepIndexAt !== undefined)
      await keepShippedIndex(workingTreeIndexPath(scratch), options.keepIndexAt);
    return { ...written.value, shipped: await shipped, staged: stagedDigest(source.entries) };
  }
  throw reason;
}

export function workingTreeFacts(plan: WorkspacePlanData, source: WorkingTreeSource): WorkingTreeFacts {
  return { ...plan, ...source, topLevel: plan.sourcePath, hidden: hiddenEntries(source.entries) };
}

async function runWorker(
  job: Omit<ImageJob, 'cancelled'>,
  gitFiles: Promise<GitFilesReady>,
  signal: AbortSignal,
  onFiles: (files: number) => void,
): Promise<WrittenImage> {
  const cancelled = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const workerData: ImageJob = { ...job, cancelled: cancelled.buffer };
  const thread = new Worker(WORKER_URL, { workerData, name: 'workspace-image', execArgv: [] });
  const send = (ready: GitFilesReady): void => thread.postMessage(ready, []);
  const giveUp = (): void => {
    Atomics.store(cancelled, 0, 1);
    // Ends a wait for git's files; a worker at work sees the flag.
    send({ gitFiles: [] });
  };
  signal.addEventListener('abort', giveUp, { once: true });
  gitFiles.then(send, giveUp);
  try {
    return await answerOf(thread, onFiles);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

/** Settles when the thread is gone, so that nobody writes to the image any more. */
function answerOf(thread: Worker, onFiles: (files: number) => void): Promise<WrittenImage> {
  return new Promise((resolve, reject) => {
    let result: WrittenImage | undefined;
    let failure: unknown;
    thread.on('message', (answer: ImageAnswer) => {
      if (answer.kind === 'progress') onFiles(answer.files);
      else if (answer.kind === 'done') result = answer;
      else
        failure = new BangerError(
          answer.code,
          answer.message,
          answer.hint === undefined ? {} : { hint: answer.hint },
        );
    });
    thread.on('error', (error) => {
      failure = error;
    });
    thread.on('exit', () => {
      if (result === undefined) reject(failure ?? new Error('the worker that writes the image ended early'));
      else resolve({ sizeBytes: result.sizeBytes, files: result.files, bytes: result.bytes });
    });
  });
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new BangerError('cancelled', 'shipping the workspace was cancelled');
}
