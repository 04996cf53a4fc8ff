/**
 * Everything a command may touch outside its own arguments. The real one is made in `src/main/banger.ts`;
 * tests make their own, so that no command reaches for `process`.
 */

import type { ExecTicket } from '../api/results/vm.ts';
import type { Method, ParamsOf, Progress, ResultOf } from '../api/contract.ts';
import type { StreamTicket } from '../api/results/stream.ts';
import type { BangerError } from '../core/errors.ts';
import type { BytePipeEnd } from './exec-session/run-byte-pipe.ts';

/** A text sink: a terminal, a pipe, or a test's array. */
export interface TextOutput {
  write(text: string): void;
  readonly isTTY: boolean;
  /** Width in characters; meaningful on a terminal only. */
  readonly columns: number;
}

export interface CallOptions {
  /** Aborting asks the daemon to cancel; the call settles once the daemon has answered. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

/** A connection to the daemon, as far as commands need it. */
export interface CliClient {
  /** @throws {BangerError} `version_mismatch`, and what keeps the other side from answering at all */
  hello(): Promise<unknown>;
  /** Resolves once the connection is gone, whoever ended it. */
  readonly closed: Promise<void>;
  call<M extends Method>(method: M, params: ParamsOf<M>, options?: CallOptions): Promise<ResultOf<M>>;
  /** Hangs up: requests still running are cancelled, ephemeral VMs made on it are deleted. */
  close(): void;
}

/** What Ctrl-C means while it is held: the first aborts `signal`, the second ends the process with status 130. */
export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
}

export interface SessionOptions {
  /** More on stdout ends the session as a failure of banger's. */
  readonly maxOutputBytes?: number;
  /** Hears what the daemon answered, before the program's first byte. */
  readonly onTicket?: (ticket: ExecTicket) => void;
}

export interface CliPorts {
  /** With `start: false` a daemon that does not answer is `null`; else it is started. */
  connect(options: { readonly start: true }): Promise<CliClient>;
  connect(options: { readonly start: boolean }): Promise<CliClient | null>;
  /** A process of its own for this command, which serves `state.*`, `config.*` and `doctor.*` without a daemon and makes no file. */
  connectOffline(): Promise<CliClient>;
  /**
   * Runs a program in a VM on this process's stdin, stdout and stderr; resolves with the exit status of the whole
   * command, after telling `onFailure` why when that is not the program's own.
   */
  session(
    client: CliClient,
    params: ParamsOf<'vm.exec'>,
    onFailure: (error: BangerError) => void,
    options?: SessionOptions,
  ): Promise<number>;
  /** Copies a ticket's output stream to stdout until it ends; rejects with `cancelled` when `signal` aborts. */
  copyStream(ticket: StreamTicket, signal: AbortSignal): Promise<void>;
  /** Copies stdin to a ticket's stream until both have ended; rejects as `copyStream` does. */
  feedStream(ticket: StreamTicket, signal: AbortSignal): Promise<void>;
  /** Joins stdin and stdout with a program in a VM, byte for byte. @throws {BangerError} as `runBytePipe` */
  pipe(ticket: StreamTicket): Promise<BytePipeEnd>;
  /** Ends this process in favour of a program of this host. @throws {BangerError} `dependency_missing` */
  become(program: string, args: readonly string[], debianPackage: string): Promise<number>;
  /** See edit-file.ts. */
  editFile(path: string, change: (text: string | null) => string | null): Promise<boolean>;
  fileExists(path: string): boolean;
  /** As the user database says; null: it does not know this user. */
  homeOfUser(): string | null;
  /** To stdout; resolves when the system has taken them. */
  writeBytes(bytes: Uint8Array): Promise<void>;
  interruption(onFirst?: () => void): Interruption;
  /** Resolves once that process is gone. @throws {BangerError} `timeout`: it stays */
  processEnd(pid: number): Promise<void>;
  /** One line from the terminal, without its line feed; null at its end. */
  readLine(question: string): Promise<string | null>;
  /** One line from stdin, without its line feed, and nothing of what follows it; null at its end. */
  readCommandLine(): string | null;
  /** Where the daemon of this user logs, whether it runs or not. */
  daemonLogPath(): string;
  /** Where the settings are, whether there are any or not. */
  configPath(): string;
  /** As `SshSetup.configFile`, whether it is there or not. */
  sshConfigPath(): string;
}

export interface CliIo {
  readonly stdout: TextOutput;
  readonly stderr: TextOutput;
  readonly stdinIsTTY: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Permission bits that new files do not get. */
  readonly umask: number;
  readonly ports: CliPorts;
}

export interface CliContext extends CliIo {
  /** What stricli needs; `exitCode` starts as null because stricli only fills in an exit code that is nullish. */
  readonly process: {
    readonly stdout: TextOutput;
    readonly stderr: TextOutput;
    readonly env: Readonly<Record<string, string | undefined>>;
    exitCode: number | string | null;
  };
  /** What follows the first `--`, for a command that takes `-- COMMAND...`; absent when there is none. */
  readonly commandArgv: readonly string[] | undefined;
  /** What follows it for the others: arguments, whatever they begin with. */
  readonly behindDashes: readonly string[];
}
