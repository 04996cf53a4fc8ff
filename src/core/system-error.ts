/** What the system refused, in words: its errors as Node throws them, with a `code`, a `syscall`, and words only sometimes. */

interface SystemError extends Error {
  readonly code: string;
  readonly path?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
  readonly hostname?: unknown;
}

/** As strerror(3), but where that is unclear. */
const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EADDRINUSE: 'the address is in use',
  EADDRNOTAVAIL: 'no such address here',
  EAGAIN: 'not possible now',
  EAI_AGAIN: 'the name cannot be looked up now',
  EBUSY: 'busy',
  ECONNABORTED: 'the connection was ended',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was reset',
  EDQUOT: 'disk quota exceeded',
  EEXIST: 'file exists',
  EFBIG: 'file too large',
  EHOSTUNREACH: 'no route to the host',
  EINVAL: 'invalid argument',
  EIO: 'input/output error',
  EISDIR: 'is a directory',
  ELOOP: 'too many levels of symbolic links',
  EMFILE: 'too many open files',
  EMLINK: 'too many links',
  ENAMETOOLONG: 'name too long',
  ENETUNREACH: 'the network is unreachable',
  ENFILE: 'too many open files on this host',
  ENODEV: 'no such device',
  ENOENT: 'no such file or directory',
  ENOEXEC: 'not an executable format',
  ENOMEM: 'not enough memory',
  ENOSPC: 'no space left on device',
  ENOSYS: 'the system cannot do it',
  ENOTDIR: 'not a directory',
  ENOTEMPTY: 'directory not empty',
  ENOTFOUND: 'no such host name',
  ENOTSUP: 'not supported there',
  ENXIO: 'no such device or address',
  EPERM: 'operation not permitted',
  EPIPE: 'the reader is gone',
  EPROTO: 'protocol error',
  EROFS: 'read-only file system',
  ESRCH: 'no such process',
  ETIMEDOUT: 'no answer in time',
  ETXTBSY: 'it is being executed',
  EXDEV: 'on another file system',
};

/** Why the system refused: `permission denied`; undefined for what is no error of the system. */
export function systemReason(error: unknown): string | undefined {
  if (!isSystemError(error)) return undefined;
  const { code, message } = error;
  // Of the file system's, the message has words, too: `EFOO: words, open 'path'`.
  const own = message.startsWith(`${code}: `) ? message.slice(code.length + 2).split(', ')[0] : undefined;
  return WORDS[code] ?? own ?? code;
}

/** As `systemReason`, behind what it is about: `/dev/kvm: permission denied`. */
export function systemErrorText(error: unknown): string | undefined {
  const reason = systemReason(error);
  if (reason === undefined) return undefined;
  const { path, address, port, hostname } = error as SystemError;
  const host = address ?? hostname;
  const about = path ?? (host === undefined || port === undefined ? host : `${String(host)}:${String(port)}`);
  return typeof about === 'string' && about !== '' ? `${about}: ${reason}` : reason;
}

function isSystemError(error: unknown): error is SystemError {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false;
  // Of what was tried at several addresses it has none of a system call; of Node's own it has ERR_….
  return Object.hasOwn(WORDS, error.code) || ('syscall' in error && /^E[A-Z0-9]+$/.test(error.code));
}
