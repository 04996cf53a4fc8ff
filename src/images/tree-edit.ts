/** Applies a recipe's changes to a tree. */

import type { TreeEdit } from './debian-recipe.ts';
import type { TarEntry, TarEntryType } from './tar-read.ts';
import type { Tree } from './tree.ts';

/** Applies the edits in order; everything they make belongs to root and carries `mtimeSeconds`. */
export async function applyEdits(
  tree: Tree,
  edits: readonly TreeEdit[],
  mtimeSeconds: number,
): Promise<void> {
  for (const edit of edits) await applyEdit(tree, edit, mtimeSeconds);
}

async function applyEdit(tree: Tree, edit: TreeEdit, mtimeSeconds: number): Promise<void> {
  switch (edit.kind) {
    case 'remove':
      return await tree.remove(edit.path);
    case 'empty':
      for (const path of tree.nodes.keys()) {
        if (path.startsWith(`${edit.path}/`)) await tree.remove(path);
      }
      return;
    case 'directory':
      return await tree.add(entry('directory', edit.path, edit.mode, mtimeSeconds));
    case 'symlink':
      await tree.remove(edit.path);
      return await tree.add({ ...entry('symlink', edit.path, 0o777, mtimeSeconds), linkName: edit.target });
    case 'file': {
      await tree.remove(edit.path);
      const bytes = Buffer.from(edit.text, 'utf8');
      return await tree.add(entry('file', edit.path, edit.mode, mtimeSeconds, bytes));
    }
  }
}

function entry(
  type: TarEntryType,
  name: string,
  mode: number,
  mtimeSeconds: number,
  bytes: Uint8Array = new Uint8Array(),
): TarEntry {
  return {
    type,
    name,
    linkName: '',
    mode,
    uid: 0,
    gid: 0,
    mtimeSeconds,
    sizeBytes: bytes.length,
    major: 0,
    minor: 0,
    xattrs: new Map(),
    content: once(bytes),
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}
