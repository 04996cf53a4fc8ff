/** Names that point to snapshots: one small file each, replaced as a whole. */

import { join } from 'node:path';
import { BangerError } from '../core/errors.ts';
import { listDir, writeFileAtomic } from '../host/files.ts';
import { isUnread, readCapped } from './snapshot-files.ts';
import { isRefName, parseRefName } from './snapshot-names.ts';

const CONTENT = /^(sha256:[0-9a-f]{64})\n$/;
/** `sha256:`, 64 digits, LF. */
const CONTENT_BYTES = 72;

export interface Ref {
  readonly name: string;
  readonly path: string;
  /** Undefined: it is damaged, or could not be read. */
  readonly digest: string | undefined;
  /** Could not be read: it may be good. */
  readonly unread: boolean;
}

/** All of them by name; files that are no refs are not looked at. */
export async function listRefs(dir: string): Promise<readonly Ref[]> {
  const refs: Ref[] = [];
  for (const name of (await listDir(dir)).filter(isRefName)) {
    const ref = await readRef(dir, name);
    if (ref !== undefined) refs.push(ref);
  }
  return refs;
}

/** Undefined: there is none of that name. */
export async function readRef(dir: string, name: string): Promise<Ref | undefined> {
  const path = join(dir, parseRefName(name));
  let content: Buffer | undefined;
  try {
    content = await readCapped(path, CONTENT_BYTES, { followLinks: false });
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    return { name, path, digest: undefined, unread: isUnread(error) };
  }
  if (content === undefined) return undefined;
  return { name, path, digest: CONTENT.exec(content.toString('latin1'))?.[1], unread: false };
}

/** `digest` as `hexOf` takes it. */
export async function writeRef(dir: string, name: string, digest: string): Promise<void> {
  await writeFileAtomic(join(dir, parseRefName(name)), `${digest}\n`);
}
