/**
 * Paths as git and the kernel have them: bytes, not text. One `BytePath` character is one byte (latin1), so that such
 * paths are cheap keys, compare in byte order and survive whatever encoding they are in. Relative to the repository's
 * root, with `/` between names.
 */

export type BytePath = string;

/** NAME_MAX of Linux. */
const NAME_MAX_BYTES = 255;
const PATH_MAX_BYTES = 4095;

export function bytesOf(path: BytePath): Buffer {
  return Buffer.from(path, 'latin1');
}

/** A path of the host, given as text, in the same form. */
export function bytePath(text: string): BytePath {
  return Buffer.from(text, 'utf8').toString('latin1');
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** For people and JSON: the text, or with `\xNN` for each byte above 0x7f where it is not UTF-8. */
export function displayPath(path: BytePath): string {
  try {
    return utf8.decode(bytesOf(path));
  } catch {
    return path.replace(/[\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
  }
}

/**
 * Whether a path from a repository's index may be made below a directory of ours. Git checks the same when it writes
 * files; an index that comes from elsewhere need not have passed that check.
 */
export function isSafePath(path: BytePath): boolean {
  if (path === '' || path.length > PATH_MAX_BYTES || path.includes('\0')) return false;
  return path.split('/').every(isSafeName);
}

function isSafeName(name: string): boolean {
  if (name === '' || name === '.' || name === '..' || name.length > NAME_MAX_BYTES) return false;
  return name.toLowerCase() !== '.git';
}

export function parentOf(path: BytePath): BytePath {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}

export function nameOf(path: BytePath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
