/** The files of a commit, from its tree objects: no index and no working tree is touched. */

import { BangerError } from '../core/errors.ts';
import { type BytePath, displayPath, isSafePath } from './byte-path.ts';
import type { HostGit } from './git.ts';

export interface CommitFile {
  readonly path: BytePath;
  readonly mode: number;
  readonly oid: string;
  /** Of the stored object; a checkout may convert line ends. Zero for a submodule. */
  readonly sizeBytes: number;
}

const MAX_LISTING_BYTES = 256 * 1024 * 1024;
const LINE = /^([0-7]{6}) [a-z]+ ([0-9a-f]{40,64}) +(\d+|-)\t/;

/** @throws {BangerError} `bad_request` when it holds a path that must not be made in a guest */
export async function listCommitFiles(git: HostGit, commit: string): Promise<CommitFile[]> {
  const listed = await git.run(['ls-tree', '-r', '-z', '--long', '--full-tree', commit], {
    maxOutputBytes: MAX_LISTING_BYTES,
  });
  const lines = listed.stdout.toString('latin1').split('\0');
  return lines.filter((line) => line !== '').map(parseLine);
}

function parseLine(line: string): CommitFile {
  const match = LINE.exec(line);
  if (match === null) {
    throw new BangerError('unsupported', `git lists a tree in an unknown form: ${JSON.stringify(line)}`);
  }
  const [prefix, mode = '', oid = '', size = ''] = match;
  const path = line.slice(prefix.length);
  if (!isSafePath(path)) {
    throw new BangerError('bad_request', `the commit holds a path that is not allowed: ${displayPath(path)}`);
  }
  return { path, mode: Number.parseInt(mode, 8), oid, sizeBytes: size === '-' ? 0 : Number(size) };
}
