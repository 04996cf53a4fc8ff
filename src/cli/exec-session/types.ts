/** What a command gives to run a program's stream on this terminal. */

import type { EventEmitter } from 'node:events';
import type { StreamTicket } from '../../api/results/stream.ts';
import type { BangerError } from '../../core/errors.ts';

/** `process.stdin`, or a stand-in. */
export interface SessionInput extends EventEmitter {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
  pause(): unknown;
  resume(): unknown;
  /** Lets the process end while the source is still open. */
  unref?(): unknown;
}

/** `process.stdout` or `process.stderr`, or a stand-in. */
export interface SessionOutput extends EventEmitter {
  readonly isTTY?: boolean;
  readonly rows?: number;
  readonly columns?: number;
  write(chunk: Uint8Array | string, taken?: (error?: Error | null) => void): boolean;
}

export interface OutputStreamOptions {
  /** The result of `vm.logs`. */
  readonly ticket: StreamTicket;
  readonly stdout: SessionOutput;
  readonly stderr: SessionOutput;
  /** Hangs up: the session rejects with `cancelled`. */
  readonly signal?: AbortSignal;
}

export interface ExecSessionOptions extends OutputStreamOptions {
  /** The result of `vm.exec`. */
  readonly ticket: StreamTicket;
  /** As asked for in `vm.exec`: raw mode (when stdin is a terminal) and resizes. */
  readonly tty: boolean;
  /** Null when `vm.exec` was asked for `stdin: false`. */
  readonly stdin: SessionInput | null;
  /** More on stdout ends the program and is a failure. Default: no limit. */
  readonly maxOutputBytes?: number;
  /** Told why the status is not the program's own. Default: `banger: <message>` on stderr. */
  readonly onFailure?: (error: BangerError) => void;
  /** Where signals come from. Default: this process. */
  readonly signals?: SignalSource;
}

/** The part of `process` that this uses. */
export interface SignalSource {
  on(event: NodeJS.Signals, listener: () => void): unknown;
  off(event: NodeJS.Signals, listener: () => void): unknown;
}
