/** A command's connection to a process of its own, for what must work without a daemon. */

import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Method, ParamsOf, ResultOf } from '../../api/contract.ts';
import { printable } from '../../core/channel/close.ts';
import { BangerError, errorText } from '../../core/errors.ts';
import { type CallOptions, clientOver, type RpcClient } from '../../rpc/client.ts';

export interface ConnectOfflineOptions {
  /** The daemon's program; `--offline` is added. */
  readonly argv: readonly [string, ...string[]];
  /** This program's version. */
  readonly version: string;
  /** Default: this process's. */
  readonly env?: NodeJS.ProcessEnv;
  /** Pass its stderr on instead of keeping the end of it for the error message. */
  readonly showStderr: boolean;
}

/** A cold start on a slow, busy host. */
const HELLO_TIMEOUT_MS = 30_000;
/** Undoing a restore may have to write a large database; a second Ctrl-C need not wait for it. */
const CANCEL_GRACE_MS = 120_000;
/** From the end of the connection to that of the process. */
const LAST_WORDS_MS = 1000;
const MAX_STDERR_CHARACTERS = 16 * 1024;
const MAX_LINES = 10;
const MAX_LINE_CHARACTERS = 300;

/** Starts it; whether it works shows at the first call. It ends by itself once this process closes the connection or dies. */
export function connectOffline(options: ConnectOfflineOptions): RpcClient {
  const [program, ...args] = options.argv;
  const child = spawn(program, [...args, '--offline'], {
    cwd: '/',
    // Ctrl-C in a terminal is for the command, which cancels through the protocol.
    detached: true,
    env: options.env ?? process.env,
    stdio: ['ignore', 'ignore', options.showStderr ? 'inherit' : 'pipe', 'pipe'],
  });
  // Node makes every extra pipe of a child a socket (child_process, options.stdio), but none when it is out of descriptors.
  const socket = (child.stdio as ChildProcess['stdio'] | undefined)?.[3] as Socket | undefined;
  if (socket === undefined) throw new BangerError('unavailable', 'too many open files to start a process');
  return new OfflineClient(child, socket, options.version);
}

class OfflineClient implements RpcClient {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #client: RpcClient;
  readonly #ended: Promise<string>;
  #stderr = '';

  constructor(child: ChildProcess, socket: Socket, version: string) {
    this.#socket = socket;
    this.#client = clientOver(this.#socket, {
      version,
      helloTimeoutMs: HELLO_TIMEOUT_MS,
      peer: { name: 'the offline process' },
    });
    this.closed = this.#client.closed;
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(`it cannot be started: ${errorText(error)}`));
      child.once('close', (status, signal) =>
        resolve(signal === null ? `it ended with status ${status}` : `it was ended by ${signal}`),
      );
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = `${this.#stderr}${chunk.toString()}`.slice(-MAX_STDERR_CHARACTERS);
    });
  }

  hello(): ReturnType<RpcClient['hello']> {
    return this.#explained(this.#client.hello());
  }

  call<M extends Method>(method: M, params: ParamsOf<M>, options: CallOptions = {}): Promise<ResultOf<M>> {
    return this.#explained(this.#client.call(method, params, { cancelGraceMs: CANCEL_GRACE_MS, ...options }));
  }

  close(): void {
    this.#client.close();
  }

  /** When the process has died, says how and with what last words. */
  async #explained<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      const isLost = error instanceof BangerError && error.code === 'unavailable' && this.#socket.destroyed;
      if (!isLost) throw error;
      throw await this.#lost(error);
    }
  }

  async #lost(cause: BangerError): Promise<BangerError> {
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve('it hung up'), LAST_WORDS_MS);
    });
    const how = await Promise.race([this.#ended, patience]);
    clearTimeout(timer);
    const lines = this.#stderr
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(-MAX_LINES)
      .map((line) => `\n  ${printable(line).slice(0, MAX_LINE_CHARACTERS)}`);
    return new BangerError(
      'unavailable',
      `the process that does this without a daemon failed: ${how}${lines.join('')}`,
      {
        cause,
      },
    );
  }
}
