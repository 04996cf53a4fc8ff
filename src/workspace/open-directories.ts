/**
 * Directories below a root, opened so that no path can lead out of it: each by its name in the one above, and none through a
 * symbolic link. Synchronous, like TreeReader, which only reads.
 */

import { closeSync, constants, fchmodSync, mkdirSync, openSync } from 'node:fs';
import { type BytePath, bytePath, bytesOf, displayPath, nameOf, parentOf } from './byte-path.ts';
import { BangerError } from '../core/errors.ts';
import { fileError } from '../host/files.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** More than a deep tree's worth; those used least recently are closed. */
const MAX_OPEN = 64;

export class OpenDirectories implements Disposable {
  readonly #root: number;
  readonly #mode: number;
  readonly #open = new Map<BytePath, number>();

  /** @param mode of directories that are made */
  constructor(rootPath: string, mode: number) {
    this.#root = openSync(bytesOf(bytePath(rootPath)), DIRECTORY);
    this.#mode = mode;
  }

  /**
   * A path to a file that the kernel resolves from its open directory, as openat(2) would: good until the next call.
   * Undefined when the directory is not there, or is none, and is not to be made.
   * @throws {BangerError} `invalid_state` (something else is in the directory's place), `permission`, `no_space`, `io_error`
   */
  pathTo(path: BytePath, make: boolean): Buffer | undefined {
    const fd = this.#enter(parentOf(path), make);
    return fd === undefined ? undefined : below(fd, nameOf(path));
  }

  /** To be called when a directory is removed. */
  forget(path: BytePath): void {
    for (const [known, fd] of this.#open) {
      if (known !== path && !known.startsWith(`${path}/`)) continue;
      this.#open.delete(known);
      closeSync(fd);
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
    closeSync(this.#root);
  }

  #enter(path: BytePath, make: boolean): number | undefined {
    if (path === '') return this.#root;
    const known = this.#open.get(path);
    if (known !== undefined) {
      this.#open.delete(path);
      this.#open.set(path, known);
      return known;
    }
    const parent = this.#enter(parentOf(path), make);
    if (parent === undefined) return undefined;
    const fd = this.#openIn(parent, path, make);
    if (fd === undefined) return undefined;
    this.#open.set(path, fd);
    for (const [oldest, old] of this.#open) {
      if (this.#open.size <= MAX_OPEN) break;
      if (path.startsWith(`${oldest}/`)) continue;
      this.#open.delete(oldest);
      closeSync(old);
    }
    return fd;
  }

  #openIn(parent: number, path: BytePath, make: boolean): number | undefined {
    const full = below(parent, nameOf(path));
    try {
      return openSync(full, DIRECTORY);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT') return make ? this.#make(full, path) : undefined;
      // A link is not followed; on some kernels that is ENOTDIR, too.
      if (code !== 'ELOOP' && code !== 'ENOTDIR') throw fileError(`cannot open ${displayPath(path)}`, error);
      if (!make) return undefined;
      throw new BangerError('invalid_state', `${displayPath(path)} is in the way: it is not a directory`, {
        cause: error,
      });
    }
  }

  #make(full: Buffer, path: BytePath): number {
    try {
      mkdirSync(full, { mode: 0o700 });
      const fd = openSync(full, DIRECTORY);
      fchmodSync(fd, this.#mode);
      return fd;
    } catch (error) {
      throw fileError(`cannot make the directory ${displayPath(path)}`, error);
    }
  }
}

function below(fd: number, name: string): Buffer {
  return bytesOf(`/proc/self/fd/${fd}/${name}`);
}
