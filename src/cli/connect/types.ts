/** How a command gets its connection to the daemon. */

export interface ConnectDaemonOptions {
  readonly socketPath: string;
  /** The daemon's own log: its stdout and stderr go there, and a daemon that failed to start is quoted from it. */
  readonly logPath: string;
  /** This program's version. The daemon must be of the same. */
  readonly version: string;
  /** The program to start when nothing answers, e.g. `[process.execPath, bangerdEntry]`. Null: never start one. */
  readonly daemonArgv: readonly [string, ...string[]] | null;
  /** Environment of a daemon that is started. Default: this process's. */
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  /** Nothing answered, and a daemon is being started. */
  readonly onStarting?: () => void;
  /** From starting the daemon to its answer. Default 15000. */
  readonly startTimeoutMs?: number;
}
