/** Starts a daemon that outlives this process, and waits until one answers. */

import type { ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { BangerError, errorText } from '../../core/errors.ts';
import { withHugePages } from '../../core/malloc-tunables.ts';
import type { RpcClient } from '../../rpc/client.ts';
import { EXIT_ALREADY_RUNNING } from '../../rpc/daemon-exit.ts';
import { logSize, logTail } from './log-tail.ts';
import type { ConnectDaemonOptions } from './types.ts';

const DEFAULT_START_TIMEOUT_MS = 15_000;
const RETRY_MS = 10;
/** A daemon that lost the instance lock may have lost it to one that was about to end. */
const RESTART_AFTER_MS = 300;
/** After a daemon of ours failed: another may be starting all the same. */
const OTHER_STARTER_MS = 200;

type Argv = readonly [string, ...string[]];
type TryConnect = () => Promise<RpcClient | null>;

/**
 * @param tryConnect null when nothing listens
 * @throws {BangerError} `unavailable`, with the last lines of the log; `cancelled`
 */
export async function startDaemon(
  options: ConnectDaemonOptions,
  argv: Argv,
  tryConnect: TryConnect,
): Promise<RpcClient> {
  const logBegin = logSize(options.logPath);
  const timeoutMs = options.startTimeoutMs ?? DEFAULT_START_TIMEOUT_MS;
  const deadlineMs = performance.now() + timeoutMs;
  let daemon = await Starting.begin(options, argv);
  try {
    while (performance.now() < deadlineMs) {
      const client = await tryConnect();
      if (client !== null) return client;
      const { ended } = daemon;
      if (ended?.status === EXIT_ALREADY_RUNNING) {
        if (ended.sinceMs > RESTART_AFTER_MS) daemon = await Starting.begin(options, argv);
      } else if (ended !== undefined && ended.sinceMs > OTHER_STARTER_MS) {
        throw failed(`the daemon did not start: ${ended.how}`, options, logBegin);
      }
      await sleep(RETRY_MS, options.signal);
    }
    throw failed(`the daemon did not answer within ${timeoutMs} ms of its start`, options, logBegin);
  } finally {
    daemon.letGo();
  }
}

interface Ended {
  readonly status: number | null;
  readonly how: string;
  readonly sinceMs: number;
}

/** A daemon process we started, until it answers or has ended. */
class Starting {
  readonly #child: ChildProcess;
  #endedAtMs = 0;
  #end: Pick<Ended, 'status' | 'how'> | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.once('error', (error) => this.#onEnd(null, errorText(error)));
    child.once('exit', (status, signal) =>
      this.#onEnd(status, signal === null ? `it ended with status ${status}` : `it was ended by ${signal}`),
    );
  }

  /** Its own session, and nothing of this process's terminal or directory: it must outlive both. */
  static async begin(options: ConnectDaemonOptions, argv: Argv): Promise<Starting> {
    const { spawn } = await import('node:child_process');
    const [program, ...args] = argv;
    mkdirSync(dirname(options.logPath), { recursive: true, mode: 0o700 });
    const log = openSync(options.logPath, 'a', 0o600);
    try {
      const child = spawn(program, args, {
        cwd: '/',
        detached: true,
        env: withHugePages(options.env ?? process.env),
        stdio: ['ignore', log, log],
      });
      return new Starting(child);
    } finally {
      closeSync(log);
    }
  }

  get ended(): Ended | undefined {
    if (this.#end === undefined) return undefined;
    return { ...this.#end, sinceMs: performance.now() - this.#endedAtMs };
  }

  /** It does not keep this process alive any more. */
  letGo(): void {
    this.#child.unref();
  }

  #onEnd(status: number | null, how: string): void {
    this.#endedAtMs = performance.now();
    this.#end ??= { status, how };
  }
}

function failed(message: string, options: ConnectDaemonOptions, logBegin: number): BangerError {
  const lines = logTail(options.logPath, logBegin).map((line) => `\n  ${line}`);
  return new BangerError('unavailable', `${message}${lines.join('')}`, {
    hint: `its log: ${options.logPath}`,
  });
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => setTimeout(resolve, ms));
  if (signal?.aborted) throw new BangerError('cancelled', 'cancelled');
}
