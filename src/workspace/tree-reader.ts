/**
 * Reads files below a directory so that no path can lead out of it: every directory on the way is opened by its name
 * in the one above and must be a real directory. Synchronous: for use in a worker thread.
 */

import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  type Stats,
} from 'node:fs';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';
import { type BytePath, bytePath, bytesOf, displayPath, nameOf, parentOf } from './byte-path.ts';

export interface OpenDirectory {
  readonly path: BytePath;
  readonly fd: number;
  readonly stat: Stats;
}

/** What a name leads to; nothing else is shipped. */
export type Found =
  | { readonly kind: 'file'; readonly fd: number; readonly stat: Stats }
  | { readonly kind: 'symlink'; readonly target: Buffer; readonly stat: Stats };

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Without O_NONBLOCK opening a FIFO would wait for its writer. */
const FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;
/** Gone, a directory in its place, a socket or a device without a driver: not a file that can be shipped. */
const NOT_THERE = new Set(['ENOENT', 'ENOTDIR', 'ENXIO', 'ENODEV', 'EISDIR']);

export class TreeReader {
  readonly #onDirectory: (directory: OpenDirectory) => void;
  readonly #stack: OpenDirectory[];

  /** @param onDirectory called once each time a directory below the root is entered */
  constructor(rootPath: string, onDirectory: (directory: OpenDirectory) => void) {
    this.#onDirectory = onDirectory;
    const fd = openSync(bytesOf(bytePath(rootPath)), DIRECTORY);
    this.#stack = [{ path: '', fd, stat: fstatSync(fd) }];
  }

  /** The root's own facts. */
  get root(): Stats {
    return (this.#stack[0] as OpenDirectory).stat;
  }

  /**
   * Opens what is at `path`; the caller closes the file. Undefined when it is gone, behind a symbolic link, or
   * neither a regular file nor a symbolic link.
   * @throws {BangerError} `permission`, `io_error`
   */
  open(path: BytePath): Found | undefined {
    try {
      const directory = this.#enter(parentOf(path));
      return directory === undefined ? undefined : openEntry(below(directory, nameOf(path)));
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== undefined && NOT_THERE.has(code)) return undefined;
      throw unreadable(path, error);
    }
  }

  close(): void {
    for (const { fd } of this.#stack.splice(0)) closeSync(fd);
  }

  /** Goes from the directory entered last to another one, through their common parent. */
  #enter(path: BytePath): OpenDirectory | undefined {
    let top = this.#stack.at(-1) as OpenDirectory;
    while (top.path !== '' && top.path !== path && !path.startsWith(`${top.path}/`)) {
      closeSync(top.fd);
      this.#stack.pop();
      top = this.#stack.at(-1) as OpenDirectory;
    }
    const rest = path.slice(top.path === '' ? 0 : top.path.length + 1);
    if (path === top.path) return top;
    for (const name of rest.split('/')) {
      const fd = openDirectory(below(top, name));
      if (fd === undefined) return undefined;
      top = { path: top.path === '' ? name : `${top.path}/${name}`, fd, stat: fstatSync(fd) };
      this.#stack.push(top);
      this.#onDirectory(top);
    }
    return top;
  }
}

/** The kernel resolves this from the open directory itself, as openat(2) would. */
function below(directory: OpenDirectory, name: string): Buffer {
  return bytesOf(`/proc/self/fd/${directory.fd}/${name}`);
}

function openDirectory(path: Buffer): number | undefined {
  try {
    return openSync(path, DIRECTORY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ELOOP') return undefined;
    throw error;
  }
}

function openEntry(path: Buffer): Found | undefined {
  let fd: number;
  try {
    fd = openSync(path, FILE);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ELOOP') throw error;
    const stat = lstatSync(path);
    const target = readlinkSync(path, { encoding: 'buffer' });
    return stat.isSymbolicLink() ? { kind: 'symlink', target, stat } : undefined;
  }
  const stat = fstatSync(fd);
  if (stat.isFile()) return { kind: 'file', fd, stat };
  closeSync(fd);
  return undefined;
}

/** Reads on from where the file's last read ended. */
export function readNext(fd: number, buffer: Buffer): number {
  return readSync(fd, buffer, 0, buffer.length, null);
}

function unreadable(path: BytePath, error: unknown): BangerError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EACCES' || code === 'EPERM') {
    return new BangerError('permission', `${displayPath(path)} cannot be read`, {
      cause: error,
      hint: 'make it readable, or remove it from the repository',
    });
  }
  return fileError(`cannot read ${displayPath(path)}`, error);
}
