/**
 * Writes an archive of a hostile guest below a directory of the host. Whatever it holds, nothing outside that directory changes: no
 * part of a path below it is a symbolic link that is followed, whoever changes the tree meanwhile. Each file gets its name when it is whole.
 *
 * Node has no openat(2): `/proc/self/fd/N/name` is the same, as the directory is held open (proc(5)).
 */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  type FileHandle,
  lstat,
  lutimes,
  mkdir,
  open,
  readdir,
  rename,
  symlink,
  unlink,
  utimes,
} from 'node:fs/promises';
import { printable } from '../../core/channel/close.ts';
import { BangerError } from '../../core/errors.ts';
import { fileError } from '../../host/files.ts';
import { pidStartTicks } from '../../host/proc.ts';
import type { DirectoryRecord, FileRecord, SymlinkRecord } from './records.ts';

const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const NEW_FILE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Set-id and sticky bits are not the guest's to give. */
const PERMISSION_BITS = 0o777;
const SLASH = 0x2f;
const TEMPORARY = /^\.banger-cp-(\d+)-(\d+)-[0-9a-f]{12}$/;

interface OpenFile {
  readonly record: FileRecord;
  readonly handle: FileHandle;
  readonly temporary: Buffer;
  readonly directory: FileHandle;
}

export class HostWriter implements AsyncDisposable {
  readonly #base: FileHandle;
  /** Directories made here, by their paths: these get the guest's modes and times, others keep theirs. */
  readonly #made = new Set<string>();
  /** The directory written to last. */
  #parent: { readonly path: Buffer; readonly handle: FileHandle } | undefined;
  #file: OpenFile | undefined;

  private constructor(base: FileHandle) {
    this.#base = base;
  }

  /** @param directory exists; links on the way to it are followed. @throws {BangerError} `permission`, `io_error` */
  static async open(directory: string): Promise<HostWriter> {
    try {
      return new HostWriter(await open(directory, constants.O_RDONLY | constants.O_DIRECTORY));
    } catch (error) {
      throw fileError(`cannot write to ${directory}`, error);
    }
  }

  /** Releases it, with what was not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#abandonFile();
    await this.#parent?.handle.close();
    await this.#base.close();
  }

  /** @throws {BangerError} `guest_failed` (something is in the way), `already_exists`, `no_space`, `permission`, `io_error` */
  async directory({ path, mode, mtimeNs }: DirectoryRecord): Promise<void> {
    const handle = await this.#open(path);
    try {
      if (!this.#made.delete(path.toString('latin1'))) return;
      await handle.chmod(mode & PERMISSION_BITS);
      await utimes(self(handle), timeOf(mtimeNs), timeOf(mtimeNs));
    } catch (error) {
      throw writeError(path, error);
    } finally {
      await handle.close();
    }
  }

  /** Begins a file; `data` and `endFile` follow. @throws as `directory` */
  async beginFile(record: FileRecord): Promise<void> {
    const directory = await this.#parentOf(record.path);
    const temporary = temporaryName();
    try {
      const handle = await open(at(directory, temporary), NEW_FILE_FLAGS, 0o600);
      this.#file = { record, handle, temporary, directory };
    } catch (error) {
      throw writeError(record.path, error);
    }
  }

  async data(offset: number, bytes: Uint8Array): Promise<void> {
    const { record, handle } = this.#openFile();
    try {
      for (let from = 0; from < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, from, bytes.length - from, offset + from);
        from += bytesWritten;
      }
    } catch (error) {
      throw writeError(record.path, error);
    }
  }

  /** Gives the file its name, in the place of a file or link that has it. */
  async endFile(sizeBytes: number): Promise<void> {
    const { record, handle, temporary, directory } = this.#openFile();
    const { path, mode, mtimeNs } = record;
    try {
      const { size } = await handle.stat();
      if (size !== sizeBytes) await handle.truncate(sizeBytes);
      await handle.chmod(mode & PERMISSION_BITS);
      await handle.utimes(timeOf(mtimeNs), timeOf(mtimeNs));
      await assertReplaceable(at(directory, nameOf(path)));
      await rename(at(directory, temporary), at(directory, nameOf(path)));
    } catch (error) {
      await this.#abandonFile();
      throw writeError(path, error);
    }
    this.#file = undefined;
    await handle.close();
  }

  /** Made as it is, wherever it leads; nothing here follows it. */
  async symlink({ path, target, mtimeNs }: SymlinkRecord): Promise<void> {
    const directory = await this.#parentOf(path);
    const temporary = at(directory, temporaryName());
    try {
      await symlink(target, temporary);
      await lutimes(temporary, timeOf(mtimeNs), timeOf(mtimeNs));
      await assertReplaceable(at(directory, nameOf(path)));
      await rename(temporary, at(directory, nameOf(path)));
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw writeError(path, error);
    }
  }

  async #abandonFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    await file.handle.close();
    await unlink(at(file.directory, file.temporary)).catch(() => undefined);
  }

  #openFile(): OpenFile {
    if (this.#file === undefined) throw new BangerError('guest_failed', 'the guest sends data of no file');
    return this.#file;
  }

  async #parentOf(path: Buffer): Promise<FileHandle> {
    const parent = path.subarray(0, Math.max(0, path.lastIndexOf(SLASH)));
    if (this.#parent !== undefined && this.#parent.path.equals(parent)) return this.#parent.handle;
    await this.#parent?.handle.close();
    this.#parent = undefined;
    const handle = await this.#open(parent);
    this.#parent = { path: parent, handle };
    if (!this.#made.has(parent.toString('latin1'))) await sweep(handle);
    return handle;
  }

  /** A directory below the base, made if missing; an empty path is the base. */
  async #open(path: Buffer): Promise<FileHandle> {
    let handle = await open(self(this.#base), constants.O_RDONLY | constants.O_DIRECTORY);
    for (let from = 0; from < path.length; ) {
      const slash = path.indexOf(SLASH, from);
      const end = slash === -1 ? path.length : slash;
      const next = await this.#step(handle, path.subarray(from, end), path.subarray(0, end)).finally(() =>
        handle.close(),
      );
      handle = next;
      from = end + 1;
    }
    return handle;
  }

  async #step(directory: FileHandle, name: Buffer, path: Buffer): Promise<FileHandle> {
    try {
      return await open(at(directory, name), DIRECTORY_FLAGS);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw writeError(path, error);
    }
    try {
      // Nobody else's until it gets the guest's mode.
      await mkdir(at(directory, name), 0o700);
      this.#made.add(path.toString('latin1'));
      return await open(at(directory, name), DIRECTORY_FLAGS);
    } catch (error) {
      throw writeError(path, error);
    }
  }
}

/** What a copy that was killed has left in a directory. */
async function sweep(directory: FileHandle): Promise<void> {
  for (const name of await readdir(self(directory)).catch(() => [])) {
    const match = TEMPORARY.exec(name);
    if (match === null || pidStartTicks(Number(match[1])) === Number(match[2])) continue;
    await unlink(at(directory, Buffer.from(name))).catch(() => undefined);
  }
}

let startTicks: number | undefined;

function temporaryName(): Buffer {
  startTicks ??= pidStartTicks(process.pid) ?? 0;
  return Buffer.from(`.banger-cp-${process.pid}-${startTicks}-${randomBytes(6).toString('hex')}`);
}

function self(directory: FileHandle): string {
  return `/proc/self/fd/${directory.fd}`;
}

function at(directory: FileHandle, name: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${self(directory)}/`), name]);
}

function nameOf(path: Buffer): Buffer {
  return path.subarray(path.lastIndexOf(SLASH) + 1);
}

/** What utimes(2) takes through Node: good to a microsecond; before 1970, of which it takes no number, to a millisecond. */
function timeOf(ns: bigint): number | Date {
  return ns < 0n ? new Date(Number(ns / 1_000_000n)) : Number(ns) / 1e9;
}

/** Files and links are; a rename would take devices and FIFOs, too. */
async function assertReplaceable(path: Buffer): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  const isOther = found !== undefined && !found.isFile() && !found.isSymbolicLink() && !found.isDirectory();
  if (isOther) throw new Irreplaceable();
}

class Irreplaceable extends Error {}

function writeError(path: Buffer, error: unknown): BangerError {
  const shown = printable(path.toString());
  if (error instanceof Irreplaceable) {
    return new BangerError(
      'already_exists',
      `cannot write ${shown}: a device, socket or FIFO is in its place`,
    );
  }
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOTDIR' || code === 'ELOOP') {
    return new BangerError(
      'already_exists',
      `cannot write ${shown}: something that is no directory is in the way`,
      {
        cause: error,
      },
    );
  }
  if (code === 'EISDIR') {
    return new BangerError('already_exists', `cannot write ${shown}: a directory is in its place`, {
      cause: error,
    });
  }
  return fileError(`cannot write ${shown}`, error);
}
