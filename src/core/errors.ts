/**
 * The one error class a user can meet, and the one table of its codes.
 *
 * A message says what happened and to which thing; a hint says what to run next.
 * Programmer errors are not BangerErrors: they are assertions (`node:assert`, or `unreachable`).
 */

import { systemErrorText } from './system-error.ts';

/** What each code means to a process (exit status), to a peer (RPC code) and to a reader (anchor in docs/errors.md). */
export const ERROR_CODES = {
  usage: { exitStatus: 2, rpcCode: -32602, anchor: 'usage' },
  bad_request: { exitStatus: 1, rpcCode: 4000, anchor: 'bad-request' },
  not_found: { exitStatus: 1, rpcCode: 4004, anchor: 'not-found' },
  already_exists: { exitStatus: 1, rpcCode: 4009, anchor: 'already-exists' },
  in_use: { exitStatus: 1, rpcCode: 4010, anchor: 'in-use' },
  invalid_state: { exitStatus: 1, rpcCode: 4011, anchor: 'invalid-state' },
  limit_exceeded: { exitStatus: 1, rpcCode: 4013, anchor: 'limit-exceeded' },
  permission: { exitStatus: 1, rpcCode: 4003, anchor: 'permission' },
  unsupported: { exitStatus: 1, rpcCode: 4015, anchor: 'unsupported' },
  cancelled: { exitStatus: 130, rpcCode: -32800, anchor: 'cancelled' },
  timeout: { exitStatus: 1, rpcCode: 4008, anchor: 'timeout' },
  version_mismatch: { exitStatus: 1, rpcCode: 4026, anchor: 'version-mismatch' },
  unavailable: { exitStatus: 1, rpcCode: 4503, anchor: 'unavailable' },
  no_space: { exitStatus: 1, rpcCode: 4507, anchor: 'no-space' },
  dependency_missing: { exitStatus: 1, rpcCode: 4424, anchor: 'dependency-missing' },
  vmm_failed: { exitStatus: 1, rpcCode: 4510, anchor: 'vmm-failed' },
  guest_failed: { exitStatus: 1, rpcCode: 4511, anchor: 'guest-failed' },
  channel_broken: { exitStatus: 1, rpcCode: 4512, anchor: 'channel-broken' },
  build_failed: { exitStatus: 1, rpcCode: 4513, anchor: 'build-failed' },
  verify_failed: { exitStatus: 1, rpcCode: 4522, anchor: 'verify-failed' },
  not_fresh: { exitStatus: 1, rpcCode: 4523, anchor: 'not-fresh' },
  io_error: { exitStatus: 1, rpcCode: 4505, anchor: 'io-error' },
  internal: { exitStatus: 1, rpcCode: -32603, anchor: 'internal' },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface BangerErrorOptions {
  /** What to run or look at next: one sentence, or a command. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** The operation the failure belongs to, as printed to the user and in every log line. */
  readonly operationId?: string;
}

export class BangerError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly operationId: string | undefined;

  constructor(code: ErrorCode, message: string, options: BangerErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BangerError';
    this.code = code;
    this.hint = options.hint;
    this.operationId = options.operationId;
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_CODES, value);
}

/** The text of any thrown value, for a message or a log line; of the system's errors in words. */
export function errorText(error: unknown): string {
  const ofSystem = systemErrorText(error);
  if (ofSystem !== undefined) return ofSystem;
  return error instanceof Error ? error.message : String(error);
}

/** Marks a branch the types say cannot be reached. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${String(value)}`);
}
