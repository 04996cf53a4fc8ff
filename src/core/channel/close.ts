/** How a stream ends: the CLOSE frame's payload, what it means to a process and to a person. */

import { FrameError, MAX_CLOSE_TEXT_BYTES } from './frame.ts';
import { decodeUtf8, encodeUtf8 } from './utf8.ts';

/** Linux errno values this program names itself. Source: asm-generic/errno-base.h and errno.h. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  E2BIG: 7,
  ENOEXEC: 8,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  ENAMETOOLONG: 36,
  ELOOP: 40,
  EPROTO: 71,
  ENETUNREACH: 101,
  ECONNRESET: 104,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
} as const;

export interface CloseFailure {
  readonly kind: 'failed';
  readonly errno: number;
  /** Begins with a stable word: see docs/agent-protocol.md. From the guest: hostile; `closeWord` and `describeFailure` are safe. */
  readonly text: string;
}

export type CloseResult =
  | { readonly kind: 'done'; readonly status: number }
  | { readonly kind: 'signaled'; readonly signal: number }
  | CloseFailure;

const KINDS = ['done', 'signaled', 'failed'] as const;
const MAX_STATUS = 255;
const MAX_SIGNAL = 64;

/** The text is cut at 1024 bytes, at a character's end. */
export function encodeClose(result: CloseResult): Uint8Array {
  const text = result.kind === 'failed' ? cutText(result.text) : new Uint8Array(0);
  const bytes = new Uint8Array(5 + text.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, KINDS.indexOf(result.kind));
  view.setUint32(1, valueOf(result), true);
  bytes.set(text, 5);
  return bytes;
}

function valueOf(result: CloseResult): number {
  if (result.kind === 'done') return result.status;
  return result.kind === 'signaled' ? result.signal : result.errno;
}

function cutText(text: string): Uint8Array {
  const bytes = encodeUtf8(text);
  let end = Math.min(bytes.length, MAX_CLOSE_TEXT_BYTES);
  while (end < bytes.length && end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/** @throws {FrameError} an unknown kind, a status over 255, a signal over 64 */
export function decodeClose(payload: Uint8Array): CloseResult {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const kind = KINDS[view.getUint8(0)];
  const value = view.getUint32(1, true);
  if (kind === undefined) throw new FrameError(`unknown close kind ${view.getUint8(0)}`);
  if (kind === 'failed') return { kind, errno: value, text: decodeUtf8(payload.subarray(5)) };
  if (kind === 'done') {
    if (value > MAX_STATUS) throw new FrameError(`exit status ${value}`);
    return { kind, status: value };
  }
  if (value === 0 || value > MAX_SIGNAL) throw new FrameError(`ended by signal ${value}`);
  return { kind, signal: value };
}

/** The stable word a failure's text begins with; empty when it has none. */
export function closeWord(failure: CloseFailure): string {
  return /^[a-z][a-z-]{0,31}(?=:|$)/.exec(failure.text)?.[0] ?? '';
}

/** banger itself failed before or around the command; as `docker run`. */
export const STATUS_BANGER_FAILED = 125;
/** The command was found and could not be executed; as a shell. */
const STATUS_NOT_EXECUTABLE = 126;
const STATUS_NOT_FOUND = 127;
const STATUS_SIGNAL_BASE = 128;

/** The exit status a result of EXEC stands for. */
export function exitStatusOf(result: CloseResult): number {
  if (result.kind === 'done') return result.status;
  if (result.kind === 'signaled') return STATUS_SIGNAL_BASE + result.signal;
  if (closeWord(result) !== 'spawn') return STATUS_BANGER_FAILED;
  return result.errno === ERRNO.ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

const ERRNO_TEXT: Readonly<Record<number, string>> = {
  [ERRNO.EPERM]: 'operation not permitted',
  [ERRNO.ENOENT]: 'no such file or directory',
  [ERRNO.EIO]: 'input/output error',
  [ERRNO.E2BIG]: 'arguments and environment are too long',
  [ERRNO.ENOEXEC]: 'not an executable format',
  [ERRNO.ENOMEM]: 'the guest is out of memory',
  [ERRNO.EACCES]: 'permission denied',
  [ERRNO.EBUSY]: 'busy',
  [ERRNO.ENOTDIR]: 'not a directory',
  [ERRNO.EISDIR]: 'is a directory',
  [ERRNO.EINVAL]: 'invalid argument',
  [ERRNO.EMFILE]: 'too many commands at once',
  [ERRNO.ENOSPC]: 'no space left in the guest',
  [ERRNO.EROFS]: 'the file system is read-only',
  [ERRNO.ENAMETOOLONG]: 'name too long',
  [ERRNO.ELOOP]: 'too many levels of symbolic links',
  // Their words say it already.
  [ERRNO.EPROTO]: '',
  [ERRNO.ENETUNREACH]: 'network unreachable',
  [ERRNO.ECONNRESET]: '',
  [ERRNO.ETIMEDOUT]: 'no answer in time',
  [ERRNO.ECONNREFUSED]: 'nothing listens there',
  [ERRNO.EHOSTUNREACH]: 'host unreachable',
};

/** What went wrong, by the word the text begins with, as the beginning of a sentence. */
const WORD_TEXT: Readonly<Record<string, string>> = {
  spawn: 'cannot run the command in the guest',
  chdir: 'cannot change to the working directory in the guest',
  user: 'no such user or group in the guest',
  connect: 'cannot connect inside the guest',
  mount: 'the guest cannot mount the disk',
  busy: 'the guest is busy',
  unpack: 'cannot write files in the guest',
  pack: 'cannot read files in the guest',
  conflict: 'files in the guest are not as they were shipped',
  'bad-request': "the guest's agent refused the request",
  internal: "the guest's agent failed",
  reset: 'the command was given up',
  ticket: 'the stream was refused',
  protocol: 'the stream broke the protocol',
  channel: 'the connection to the guest was lost',
};

const MAX_DETAIL_CHARACTERS = 300;

/** One sentence for a person: what failed and why. Safe to print: control characters are replaced. */
export function describeFailure(failure: CloseFailure): string {
  const lead = knownWord(failure) ?? "the guest's agent failed";
  const detail = failureDetail(failure);
  return detail === '' ? lead : `${lead}: ${detail}`;
}

/** Only the why, for a message that says what failed itself. Safe to print. */
export function failureDetail(failure: CloseFailure): string {
  const text =
    knownWord(failure) === undefined ? failure.text : failure.text.slice(closeWord(failure).length + 1);
  const detail = printable(text).trim().slice(0, MAX_DETAIL_CHARACTERS);
  if (detail !== '') return detail;
  return ERRNO_TEXT[failure.errno] ?? (failure.errno === 0 ? '' : `errno ${failure.errno}`);
}

/** The word comes from the guest: it must not find what objects have by themselves. */
function knownWord(failure: CloseFailure): string | undefined {
  const word = closeWord(failure);
  return Object.hasOwn(WORD_TEXT, word) ? WORD_TEXT[word] : undefined;
}

/** Text from the guest without what a terminal would obey. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, '\u{fffd}');
}
