/** The one door to other programs: argument vectors only, bounded output, cancellable. */

import { execa, ExecaError } from 'execa';
import { BangerError } from '../core/errors.ts';

export interface RunOptions {
  readonly cwd?: string;
  /** Added to this process's environment; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string | Uint8Array;
  /** Ends the program with SIGTERM, and SIGKILL `killAfterMs` later. */
  readonly signal?: AbortSignal;
  /** Default 2000. More for programs that clean up after themselves. */
  readonly killAfterMs?: number;
  readonly timeoutMs?: number;
  /** Cap on stdout and on stderr each; more is an error. Default 16 MiB. */
  readonly maxOutputBytes?: number;
  /** Called with every line of stderr as it comes: progress of long work. */
  readonly onStderrLine?: (line: string) => void;
  /** Exit statuses that are an answer rather than a failure. Default [0]. */
  readonly okStatuses?: readonly number[];
}

export interface RunResult {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly status: number;
}

export interface CommandRunner {
  /**
   * Runs `argv[0]` (looked up in PATH) to its end.
   * @throws {BangerError} `dependency_missing` (no such program), `cancelled`, `timeout`, `io_error` (another
   *   status; the message ends with the program's last words)
   */
  run(argv: readonly [string, ...string[]], options?: RunOptions): Promise<RunResult>;
}

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const KILL_AFTER_MS = 2000;
const LAST_WORDS_LINES = 5;

export function createRunner(): CommandRunner {
  return { run };
}

async function run(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
  const [program, ...args] = argv;
  const okStatuses = options.okStatuses ?? [0];
  try {
    const child = execa(program, args, {
      encoding: 'buffer',
      stripFinalNewline: false,
      maxBuffer: options.maxOutputBytes ?? MAX_OUTPUT_BYTES,
      forceKillAfterDelay: options.killAfterMs ?? KILL_AFTER_MS,
      reject: false,
      env: { ...options.env },
      ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    });
    if (options.onStderrLine !== undefined) forwardLines(child.stderr, options.onStderrLine);
    const result = await child;
    const stderr = Buffer.from(result.stderr ?? []).toString('utf8');
    // A program that is done before it notices that nobody reads on ends well, with part of its output.
    const isOk = result.exitCode !== undefined && okStatuses.includes(result.exitCode) && !result.isMaxBuffer;
    if (!result.failed || isOk) {
      return { stdout: Buffer.from(result.stdout ?? []), stderr, status: result.exitCode ?? 0 };
    }
    throw failure(program, result, stderr);
  } catch (error) {
    if (error instanceof ExecaError) throw failure(program, error, '');
    throw error;
  }
}

interface FailedRun {
  readonly isCanceled: boolean;
  readonly timedOut: boolean;
  readonly isMaxBuffer: boolean;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly code?: string | undefined;
  readonly cause?: unknown;
}

function failure(program: string, result: FailedRun, stderr: string): BangerError {
  const cause = result.cause;
  if (result.isCanceled) return new BangerError('cancelled', 'cancelled');
  if (result.timedOut) return new BangerError('timeout', `${program} did not finish in time`);
  if (result.isMaxBuffer) return new BangerError('limit_exceeded', `${program} printed more than allowed`);
  if (result.code === 'ENOENT') {
    return new BangerError('dependency_missing', `the program "${program}" is not installed`, { cause });
  }
  const lastWords = stderr.trim().split('\n').slice(-LAST_WORDS_LINES).join('\n');
  const how = result.signal === undefined ? `exit status ${result.exitCode}` : `signal ${result.signal}`;
  return new BangerError(
    'io_error',
    `${program} failed (${how})${lastWords === '' ? '' : `: ${lastWords}`}`,
    {
      cause,
    },
  );
}

function forwardLines(stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void {
  let rest = '';
  stream?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString('utf8')).split(/[\r\n]+/);
    rest = (lines.pop() ?? '').slice(-4096);
    for (const line of lines) if (line !== '') onLine(line);
  });
}
