/** The directory tree of an image while it is being filled. */

import assert from 'node:assert/strict';
import { type BytePath, nameOf, parentOf } from '../byte-path.ts';
import type { StoredData } from './data-area.ts';

interface NodeFacts {
  /** Permission bits. */
  readonly mode: number;
  readonly mtimeSeconds: number;
}

export interface FileNode extends NodeFacts {
  readonly kind: 'file';
  readonly data: StoredData;
}

export interface SymlinkNode extends NodeFacts {
  readonly kind: 'symlink';
  readonly target: Buffer;
}

export interface DirectoryNode extends NodeFacts {
  readonly kind: 'directory';
  readonly children: Map<string, TreeNode>;
}

export type TreeNode = FileNode | SymlinkNode | DirectoryNode;

/** Paths are put in any order; a parent appears when it is first needed. */
export class ImageTree {
  readonly root: DirectoryNode;
  readonly #directories = new Map<BytePath, DirectoryNode>();
  readonly #facts = new Map<BytePath, NodeFacts>();

  constructor(facts: NodeFacts) {
    this.root = { kind: 'directory', ...facts, children: new Map() };
    this.#directories.set('', this.root);
  }

  put(path: BytePath, node: FileNode | SymlinkNode): void {
    const parent = this.#directory(parentOf(path));
    const name = nameOf(path);
    assert(!parent.children.has(name), `${path} is put twice`);
    parent.children.set(name, node);
  }

  /** Says what a directory looks like. It appears only when something is put into it afterwards. */
  describeDirectory(path: BytePath, facts: NodeFacts): void {
    this.#facts.set(path, facts);
  }

  /** A directory that may stay empty. */
  putDirectory(path: BytePath, facts: NodeFacts): void {
    this.describeDirectory(path, facts);
    this.#directory(path);
  }

  #directory(path: BytePath): DirectoryNode {
    const known = this.#directories.get(path);
    if (known !== undefined) return known;
    const facts = this.#facts.get(path) ?? { mode: 0o755, mtimeSeconds: this.root.mtimeSeconds };
    const made: DirectoryNode = { kind: 'directory', ...facts, children: new Map() };
    const parent = this.#directory(parentOf(path));
    assert(!parent.children.has(nameOf(path)), `${path} is a file already`);
    parent.children.set(nameOf(path), made);
    this.#directories.set(path, made);
    return made;
  }
}
