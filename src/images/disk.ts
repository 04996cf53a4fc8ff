/** Disks of VMs: copy-on-write overlays over an image's root file system. */

import { constants } from 'node:fs';
import { chmod, copyFile, type FileHandle, open, stat, truncate, unlink } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { isErrno } from '../host/drafts.ts';
import { fileError } from '../host/files.ts';
import { createRunner } from '../host/runner.ts';
import {
  emptyOverlay,
  MAX_BACKING_NAME_BYTES,
  MAX_OVERLAY_BYTES,
  QCOW2_PROBE_BYTES,
  qcow2VirtualSize,
  SECTOR_BYTES,
} from './qcow2.ts';

export interface CreateOverlayOptions {
  /** Absolute. Never written to through the overlay. */
  readonly basePath: string;
  readonly baseFormat: 'raw' | 'qcow2';
  /** Must not exist. */
  readonly overlayPath: string;
  /** Virtual size the guest sees. */
  readonly sizeBytes: number;
}

const MIB = 1024 ** 2;
const NEVER = new AbortController().signal;
/** The kernel copies this much in a fraction of a second; what is larger is copied here, and can be given up. */
const UNINTERRUPTED_COPY_BYTES = 64 * MIB;
const STAT_BLOCK_BYTES = 512;
const COPY_BLOCK_BYTES = 256 * 1024;
const ZEROS = Buffer.alloc(COPY_BLOCK_BYTES);
/** What ioctl_ficlone(2) says of file systems that do not share blocks, and libuv of kernels that do not know it. */
const CANNOT_SHARE = ['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'ENOTTY', 'EINVAL', 'ENOSYS'];

/**
 * Makes an empty qcow2 overlay. Written by hand: `qemu-img create` is 10 to 25 ms of process start for the same bytes.
 * @throws {BangerError} `bad_request` (smaller than the base, not a multiple of 512, too large), `not_found` (base),
 *   `already_exists`, `no_space`, `io_error`
 */
export async function createOverlay(options: CreateOverlayOptions): Promise<void> {
  const { basePath, baseFormat, overlayPath, sizeBytes } = options;
  checkSize(sizeBytes, await baseSize(basePath, baseFormat));
  if (Buffer.byteLength(basePath) > MAX_BACKING_NAME_BYTES) {
    throw new BangerError(
      'bad_request',
      `the path of the base image is too long for a qcow2 overlay: ${basePath}`,
    );
  }
  const { pieces, fileSizeBytes } = emptyOverlay({
    backingName: basePath,
    backingFormat: baseFormat,
    sizeBytes,
  });
  try {
    await using file = await open(overlayPath, 'wx', 0o600);
    try {
      for (const { offset, bytes } of pieces) await file.write(bytes, 0, bytes.length, offset);
      await file.truncate(fileSizeBytes);
    } catch (error) {
      await unlink(overlayPath);
      throw error;
    }
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') {
      throw new BangerError('already_exists', `the disk ${overlayPath} exists already`, { cause });
    }
    throw fileError(`cannot create the disk ${overlayPath}`, cause);
  }
}

export interface CreateRootDiskOptions {
  /** Absolute. Never written to. */
  readonly basePath: string;
  readonly baseFormat: 'raw' | 'qcow2';
  /** Must not exist. */
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** What the guest sees. */
  readonly sizeBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Makes a VM's root disk: an overlay, or, for VMMs that read no qcow2, a copy, which shares the image's blocks where the file
 * system can.
 * @throws {BangerError} as `createOverlay` and `copyDisk`, `unsupported` (a raw disk of a qcow2 image)
 */
export async function createRootDisk(options: CreateRootDiskOptions): Promise<void> {
  const { basePath, baseFormat, path, format, sizeBytes, signal } = options;
  if (format === 'qcow2') {
    await createOverlay({ basePath, baseFormat, overlayPath: path, sizeBytes });
    return;
  }
  if (baseFormat !== 'raw') {
    throw new BangerError('unsupported', `${basePath} is a ${baseFormat} image: a raw disk needs a raw one`, {
      hint: 'QEMU uses such images: driver = "qemu" in config.toml',
    });
  }
  checkSize(sizeBytes, await baseSize(basePath, baseFormat));
  await copyDisk(basePath, path, signal);
  await truncate(path, sizeBytes);
}

/**
 * Copies a root disk for a VM whose disk is as large or larger. An overlay is grown by the VMM that opens it, a raw disk here.
 * @throws {BangerError} as `copyDisk`
 */
export async function copyRootDisk(
  from: string,
  to: string,
  { format, sizeBytes, signal }: Pick<CreateRootDiskOptions, 'format' | 'sizeBytes' | 'signal'>,
): Promise<void> {
  await copyDisk(from, to, signal);
  if (format === 'raw' && (await stat(to)).size < sizeBytes) await truncate(to, sizeBytes);
}

/**
 * Copies a disk, sharing its blocks where the file system can (FICLONE); the copy of an overlay stands on the
 * same base. When it fails there is none.
 * @throws {BangerError} `already_exists`, `not_found`, `no_space`, `io_error`, `cancelled`
 */
export async function copyDisk(from: string, to: string, signal: AbortSignal = NEVER): Promise<void> {
  try {
    if (signal.aborted) throw new BangerError('cancelled', 'copying the disk was cancelled');
    if (await sharedOrSmall(from, to)) await chmod(to, 0o600);
    else if (await isMostlyHoles(from)) await copySparse(from, to, signal);
    else await copyBytes(from, to, signal);
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) await unlink(to).catch(() => undefined);
    throw fileError(`cannot copy the disk ${from} to ${to}`, error);
  }
}

/** A raw disk is mostly holes, which cost nothing to whoever may ask where they are (lseek(2), SEEK_DATA): Node cannot. */
async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  await (await open(to, 'wx', 0o600)).close();
  const argv = ['cp', '--sparse=auto', '--', from, to] as const;
  await createRunner().run(argv, { signal });
}

async function isMostlyHoles(path: string): Promise<boolean> {
  const { size, blocks } = await stat(path);
  return blocks * STAT_BLOCK_BYTES < size / 2;
}

/** In one step, which cannot be interrupted. @returns false: it would take long, and nothing was done */
async function sharedOrSmall(from: string, to: string): Promise<boolean> {
  const { size } = await stat(from);
  const small = size <= UNINTERRUPTED_COPY_BYTES;
  const { COPYFILE_EXCL, COPYFILE_FICLONE, COPYFILE_FICLONE_FORCE } = constants;
  try {
    await copyFile(from, to, COPYFILE_EXCL | (small ? COPYFILE_FICLONE : COPYFILE_FICLONE_FORCE));
    return true;
  } catch (error) {
    if (small || !CANNOT_SHARE.some((code) => isErrno(error, code))) throw error;
    return false;
  }
}

/** Holes stay holes. */
async function copyBytes(from: string, to: string, signal: AbortSignal): Promise<void> {
  await using source = await open(from, 'r');
  await using target = await open(to, 'wx', 0o600);
  const block = Buffer.allocUnsafe(COPY_BLOCK_BYTES);
  for (let position = 0; ; ) {
    if (signal.aborted) throw new BangerError('cancelled', 'copying the disk was cancelled');
    const { bytesRead } = await source.read(block, 0, block.length, position);
    if (bytesRead === 0) return await target.truncate(position);
    if (!block.subarray(0, bytesRead).equals(ZEROS.subarray(0, bytesRead))) {
      await writeAll(target, block.subarray(0, bytesRead), position);
    }
    position += bytesRead;
  }
}

/** write(2) may write less than it was given: then what is in the way shows at the next try. */
async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

function checkSize(sizeBytes: number, minimumBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % SECTOR_BYTES !== 0) {
    throw new BangerError('bad_request', `a disk cannot have ${sizeBytes} bytes: it needs a multiple of 512`);
  }
  if (sizeBytes < minimumBytes) {
    const minimum = Math.ceil(minimumBytes / MIB);
    throw new BangerError(
      'bad_request',
      `the disk is too small: ${Math.floor(sizeBytes / MIB)} MiB, the image needs at least ${minimum} MiB`,
      { hint: `ask for ${minimum}MiB or more` },
    );
  }
  if (sizeBytes > MAX_OVERLAY_BYTES) {
    throw new BangerError(
      'bad_request',
      `the disk is too large: the limit is ${MAX_OVERLAY_BYTES / 1024 ** 4} TiB`,
    );
  }
}

/** The virtual size of a base image, rounded up to whole sectors as QEMU sees it. */
async function baseSize(path: string, format: 'raw' | 'qcow2'): Promise<number> {
  try {
    if (format === 'raw') return roundUp((await stat(path)).size);
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(QCOW2_PROBE_BYTES), 0, QCOW2_PROBE_BYTES, 0);
    const size = qcow2VirtualSize(buffer.subarray(0, bytesRead));
    if (size === undefined) throw new BangerError('io_error', `${path} is not a qcow2 image`);
    return roundUp(size);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') {
      throw new BangerError('not_found', `the image's disk ${path} is missing`, { cause });
    }
    throw fileError(`cannot read the image's disk ${path}`, cause);
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}
