/** What a command gives to run a program's stream on this terminal. */

import type { ReadStream } from 'node:tty';
import type { StreamTicket } from '../../api/contract.ts';

/** `process.stdin`, or a stand-in. */
export type SessionInput = NodeJS.ReadableStream & Partial<Pick<ReadStream, 'isTTY' | 'setRawMode'>>;
/** `process.stdout` or `process.stderr`, or a stand-in. */
export type SessionOutput = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly rows?: number;
  readonly columns?: number;
};

export interface ExecSessionOptions {
  /** The result of `vm.exec`. */
  readonly ticket: StreamTicket;
  /** As asked for in `vm.exec`: raw mode (when stdin is a terminal) and resizes instead of forwarded signals. */
  readonly tty: boolean;
  /** Null when `vm.exec` was asked for `stdin: false`. */
  readonly stdin: SessionInput | null;
  readonly stdout: SessionOutput;
  readonly stderr: SessionOutput;
  /** Hangs up: the session rejects with `cancelled`. */
  readonly signal?: AbortSignal;
}

/**
 * The exit status of the whole command: the program's own; 128+n for signal n; 127 and 126 for a program that is not there or
 * cannot be run; 125, with a message on stderr, for everything else that failed.
 */
export type RunExecSession = (options: ExecSessionOptions) => Promise<number>;

export interface OutputStreamOptions {
  readonly ticket: StreamTicket;
  readonly stdout: SessionOutput;
  readonly stderr: SessionOutput;
  readonly signal?: AbortSignal;
}

/** Copies a stream that is only read (`vm.logs`) until it ends. Rejects when it fails; a reader that went away ends it quietly. */
export type RunOutputStream = (options: OutputStreamOptions) => Promise<void>;
