/**
 * A root file system in the making, without root: contents, modes and links lie in a staging directory; owners, devices
 * and attributes, which an ordinary user cannot give to files, are kept in an index until the image is written.
 *
 * Paths are relative to the root without leading or trailing slash, '' is the root, one code unit per byte.
 */

import { constants } from 'node:fs';
import { chmod, link, lutimes, mkdir, open, symlink, unlink } from 'node:fs/promises';
import { BangerError } from '../core/errors.ts';
import { removeTree } from '../host/files.ts';
import type { TarEntry } from './tar-read.ts';

export interface TreeNode {
  readonly type: 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

export interface TreeLimits {
  readonly maxEntries: number;
  readonly maxTotalBytes: number;
}

const MAX_DEPTH = 64;
const MAX_COMPONENT_BYTES = 255;
const DEFAULT_DIRECTORY: TreeNode = {
  type: 'directory',
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  major: 0,
  minor: 0,
  xattrs: new Map(),
};

/** What the owner of the staging files must be allowed for mke2fs to read them and for us to remove them. */
const STAGING_BITS = { file: 0o600, directory: 0o700 } as const;

export class Tree {
  readonly dir: string;
  readonly #limits: TreeLimits;
  readonly #nodes = new Map<string, TreeNode>([['', DEFAULT_DIRECTORY]]);
  #totalBytes = 0;

  /** @param dir existing empty directory, ours alone */
  constructor(dir: string, limits: TreeLimits) {
    this.dir = dir;
    this.#limits = limits;
  }

  /** All nodes, parents before what is in them. */
  get nodes(): ReadonlyMap<string, TreeNode> {
    return this.#nodes;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** The name of a node's file in the staging directory; devices and pipes have none. */
  stagingPath(path: string): Buffer {
    return Buffer.concat([Buffer.from(`${this.dir}/`), Buffer.from(path, 'latin1')]);
  }

  /** The mode the staging file has: the node's own where the owner can still read it. */
  stagingMode(node: TreeNode): number {
    return node.type === 'file' || node.type === 'directory'
      ? node.mode | STAGING_BITS[node.type]
      : node.mode;
  }

  /**
   * Adds an entry of an archive; a node of the same path is replaced, a directory only by a directory.
   * @throws {BangerError} `bad_request` (a path that leads out, through a link, or cannot be named in an image), `limit_exceeded`
   */
  async add(entry: TarEntry): Promise<void> {
    const path = normalisePath(entry.name);
    if (this.#nodes.size >= this.#limits.maxEntries) {
      throw new BangerError('limit_exceeded', `the image has more than ${this.#limits.maxEntries} files`);
    }
    if (path !== '') await this.#ensureParent(path, entry.mtimeSeconds);
    if (entry.type === 'hardlink') return await this.#addHardLink(path, normalisePath(entry.linkName));
    const { type, mode, uid, gid, mtimeSeconds, major, minor, xattrs } = entry;
    const node: TreeNode = { type, mode, uid, gid, mtimeSeconds, major, minor, xattrs };
    await this.#makeRoom(path, node);
    if (type === 'file') await this.#writeFile(path, entry.content);
    if (type === 'symlink') await symlink(Buffer.from(entry.linkName, 'latin1'), this.stagingPath(path));
    this.#nodes.set(path, node);
  }

  /** Removes a node and everything below it; nothing when there is none. */
  async remove(path: string): Promise<void> {
    const node = this.#nodes.get(path);
    if (node === undefined) return;
    for (const other of this.#nodes.keys()) {
      if (other === path || other.startsWith(`${path}/`)) this.#nodes.delete(other);
    }
    if (node.type === 'directory') await removeTree(`${this.dir}/${path}`, { below: this.dir });
    else if (node.type === 'file' || node.type === 'symlink') await unlink(this.stagingPath(path));
  }

  /** Gives staging files their modes and times. After this nothing may be added. */
  async seal(): Promise<void> {
    // Children first: making a file changes the time of its directory.
    for (const [path, node] of [...this.#nodes].reverse()) {
      if (node.type !== 'file' && node.type !== 'directory' && node.type !== 'symlink') continue;
      const staging = this.stagingPath(path);
      if (node.type !== 'symlink') await chmod(staging, this.stagingMode(node));
      await lutimes(staging, node.mtimeSeconds, node.mtimeSeconds);
    }
  }

  async #writeFile(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    await using file = await open(
      this.stagingPath(path),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
      0o600,
    );
    for await (const chunk of content) {
      this.#totalBytes += chunk.length;
      if (this.#totalBytes > this.#limits.maxTotalBytes) {
        throw new BangerError(
          'limit_exceeded',
          `the image holds more than ${this.#limits.maxTotalBytes} bytes`,
        );
      }
      await file.writeFile(chunk);
    }
  }

  async #addHardLink(path: string, target: string): Promise<void> {
    const node = this.#nodes.get(target);
    if (node === undefined || (node.type !== 'file' && node.type !== 'symlink')) {
      throw new BangerError(
        'bad_request',
        `the archive links ${printable(path)} to what is not a file in it`,
      );
    }
    if (path === target) return;
    await this.#makeRoom(path, node);
    await link(this.stagingPath(target), this.stagingPath(path));
    this.#nodes.set(path, node);
  }

  async #makeRoom(path: string, node: TreeNode): Promise<void> {
    const old = this.#nodes.get(path);
    if (node.type === 'directory') {
      if (old?.type === 'directory') return;
      if (old !== undefined) await this.remove(path);
      await mkdir(this.stagingPath(path), 0o700);
    } else if (old?.type === 'directory') {
      throw new BangerError(
        'bad_request',
        `the archive puts a file in the place of the directory ${printable(path)}`,
      );
    } else if (old !== undefined) {
      await this.remove(path);
    }
  }

  async #ensureParent(path: string, mtimeSeconds: number): Promise<void> {
    const slash = path.lastIndexOf('/');
    const parent = slash === -1 ? '' : path.slice(0, slash);
    const node = this.#nodes.get(parent);
    if (node?.type === 'directory') return;
    if (node !== undefined) {
      throw new BangerError(
        'bad_request',
        `the archive puts ${printable(path)} below what is not a directory`,
      );
    }
    await this.#ensureParent(parent, mtimeSeconds);
    await mkdir(this.stagingPath(parent), 0o700);
    this.#nodes.set(parent, { ...DEFAULT_DIRECTORY, mtimeSeconds });
  }
}

/** @throws {BangerError} `bad_request` for names that lead out of the tree or that debugfs could not be told safely */
function normalisePath(name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  const bad = parts.some((part) => part === '..' || part.length > MAX_COMPONENT_BYTES);
  // Control characters would end a line of the debugfs script and begin a command of the archive's choosing.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these are refused
  if (bad || parts.length > MAX_DEPTH || /[\u0000-\u001f\u007f]/.test(name)) {
    throw new BangerError(
      'bad_request',
      `the archive holds a file name that is not allowed: ${printable(name)}`,
    );
  }
  return parts.join('/');
}

export function printable(path: string): string {
  return JSON.stringify(path.slice(0, 200));
}
