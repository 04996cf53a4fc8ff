/** What is needed of a guest to work on its files: that programs run there. Everything that they print is the guest's word. */

export interface GuestProgram {
  /** Looked up in the guest's PATH. */
  readonly argv: readonly [string, ...string[]];
  /** Absolute, in the guest. */
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** For its standard input; nothing when absent. */
  readonly input?: Uint8Array;
}

export interface GuestProgramLimits {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** Cap on stdout; more is an error. */
  readonly maxOutputBytes: number;
  /** Takes stdout as it comes, at its own pace; the result has none. What it throws ends the program and is thrown. */
  readonly onStdout?: (bytes: Uint8Array) => Promise<void>;
}

export interface GuestProgramResult {
  readonly stdout: Buffer;
  /** At most MAX_GUEST_STDERR_BYTES; more is an error. */
  readonly stderr: Buffer;
  /** Exit status; 128 + n when signal n ended it. */
  readonly status: number;
}

export const MAX_GUEST_STDERR_BYTES = 1024 * 1024;

export interface GuestPrograms {
  /**
   * @throws {BangerError} `dependency_missing` (no such program in the guest), `guest_failed` (it could not be started),
   *   `limit_exceeded`, `timeout`, `cancelled`, `channel_broken`
   */
  run(program: GuestProgram, limits: GuestProgramLimits): Promise<GuestProgramResult>;
}
