/** A client's end of one stream (docs/agent-protocol.md, section "Client streams"). */

import type { CloseResult } from '../core/channel/close.ts';

export interface StreamEvents {
  /**
   * Output. `taken` must be called once, when the consumer is done with the bytes: that is what renews the sender's credit.
   * At most 512 KiB per channel is outstanding.
   */
  onStdout(chunk: Uint8Array, taken: () => void): void;
  onStderr(chunk: Uint8Array, taken: () => void): void;
  /** `write` returned false, and now all it kept has been sent. */
  onWritable?(): void;
}

export interface OpenStreamOptions extends StreamEvents {
  readonly streamSocketPath: string;
  /** 64 hex digits. */
  readonly ticket: string;
  /** Hangs up. */
  readonly signal?: AbortSignal;
}

export interface ClientStream {
  /**
   * Settles once the result is known and every byte of output before it has been handed to the events. Rejects with
   * `channel_broken` when the connection ends without a result, `cancelled` when hung up, `unavailable` when nothing answers.
   */
  readonly result: Promise<CloseResult>;
  /**
   * Sends bytes to the program's stdin as far as its credit allows and keeps the rest (without a copy).
   * @returns false when something was kept: stop reading the source until `onWritable`
   */
  write(chunk: Uint8Array): boolean;
  /** The end of stdin, after everything written. */
  endInput(): void;
  /** To the process group of the program. */
  sendSignal(number: number): void;
  resize(rows: number, columns: number): void;
  /** Gives the program up (SIGHUP, then SIGKILL 2 s later); the result still comes. */
  reset(): void;
  /** Hangs up at once; the daemon resets the program. */
  destroy(): void;
}
