/** What the ends of `vm cp` mean, on either side: src/daemon/services/guests/vm-copy.ts, docs/files.md. */

export interface CopyPath {
  /** As it was given. */
  readonly whole: string;
  /** The directory it lies in; of contents, the directory whose contents they are. */
  readonly directory: string;
  /** Empty: the contents of the directory, `DIR/.`. */
  readonly name: string;
  /** A slash at the end: it is a directory, or a link that leads to one. */
  readonly saysDirectory: boolean;
}

/** @param path absolute */
export function parseCopyPath(path: string): CopyPath {
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/');
  const name = trimmed.slice(slash + 1);
  if (name === '' || name === '.' || name === '..') {
    return { whole: path, directory: path, name: '', saysDirectory: true };
  }
  const directory = slash === 0 ? '/' : trimmed.slice(0, slash);
  return { whole: path, directory, name, saysDirectory: trimmed.length < path.length };
}

/** What is at the other end. */
export type CopyTargetKind = 'directory' | 'other' | 'missing';

/** Where things go: `name` below `directory`, or, with an empty name, into it. */
export interface CopyTarget {
  readonly directory: string;
  readonly name: string;
  /** The directory is to be made first. */
  readonly isNew: boolean;
}

/**
 * Where a source goes, or why it cannot: as cp(1) has it.
 * @param source undefined: a stream, which has no name
 */
export function copyTarget(
  source: Pick<CopyPath, 'name'> | undefined,
  isDirectory: boolean,
  target: CopyPath,
  kind: CopyTargetKind,
): CopyTarget | 'not-a-directory' | 'is-a-directory' | 'missing-directory' {
  const isContents = source?.name === '';
  if (kind === 'directory') {
    if (source === undefined) return 'is-a-directory';
    return { directory: target.whole, name: source.name, isNew: false };
  }
  if (kind === 'other' && (isDirectory || target.saysDirectory)) return 'not-a-directory';
  if (target.name === '' || (target.saysDirectory && !isDirectory)) return 'missing-directory';
  if (isContents) return { directory: target.whole, name: '', isNew: true };
  return { directory: target.directory, name: target.name, isNew: false };
}
