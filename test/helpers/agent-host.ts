/** The real agent's session code as a process on this host, for tests without a machine. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { AgentClient } from '../../src/guest/agent-client.ts';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Set to run the tests against another build, e.g. one with sanitizers. */
const PREBUILT = process.env['AGENT_HOST_PROGRAM'];
const PROGRAM = PREBUILT ?? join(ROOT, 'build/guest/agent-host');
const START_TRIES = 500;
const START_WAIT_MS = 10;

export class AgentHost {
  readonly socketPath: string;
  readonly process: ChildProcess;
  readonly #dir: string;

  private constructor(dir: string, child: ChildProcess) {
    this.#dir = dir;
    this.socketPath = join(dir, 's');
    this.process = child;
  }

  /** Builds it when it is missing or stale, and starts it. */
  static async start(): Promise<AgentHost> {
    if (PREBUILT === undefined) await build();
    const dir = await mkdtemp(join(tmpdir(), 'agent-host-'));
    const host = new AgentHost(
      dir,
      spawn(PROGRAM, [join(dir, 's')], { stdio: ['ignore', 'inherit', 'inherit'] }),
    );
    for (let tries = 1; ; tries++) {
      const socket = await host.#tryConnect();
      if (socket !== undefined) {
        socket.destroy();
        return host;
      }
      if (tries === START_TRIES || host.process.exitCode !== null)
        throw new Error('agent-host does not start');
      await delay(START_WAIT_MS);
    }
  }

  async connect(): Promise<AgentClient> {
    const socket = connect(this.socketPath);
    await once(socket, 'connect');
    return await AgentClient.connect(socket, { signal: new AbortController().signal, timeoutMs: 10_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const exited = once(this.process, 'exit');
      this.process.kill('SIGKILL');
      await exited;
    }
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #tryConnect(): Promise<Socket | undefined> {
    const socket = connect(this.socketPath);
    try {
      await once(socket, 'connect');
      return socket;
    } catch {
      return undefined;
    }
  }
}

async function build(): Promise<void> {
  await mkdir(join(ROOT, 'build'), { recursive: true });
  // Two test files may come here at once.
  const make = ['--timeout', '300', join(ROOT, 'build/guest.lock'), 'make', '-s', '-C', join(ROOT, 'guest')];
  await promisify(execFile)('flock', make);
}
