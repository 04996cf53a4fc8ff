/** Sessions in a process of their own, against a program the test plays. */

import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { FakeProgram } from './fake-program.ts';
import { type Fixture, gate } from './fixture.ts';

const CHILD = fileURLToPath(new URL('./session-child.ts', import.meta.url));
const PTY = join(import.meta.dirname, 'pty.py');

export type Mode = 'exec' | 'tty' | 'no-stdin' | 'output' | 'crash' | 'exit' | 'linger' | 'limited';

export interface Session {
  readonly program: FakeProgram;
  readonly child: ChildProcess;
  /** Exit status as a shell shows it. */
  readonly ended: Promise<number>;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

async function admitted(
  fixture: Fixture,
  mode: Mode,
): Promise<{ config: string; program: Promise<FakeProgram> }> {
  const arrived = gate<FakeProgram>();
  const ticket = fixture.tickets.issue(
    (socket) => {
      fixture.defer(() => socket.destroy());
      arrived.resolve(new FakeProgram(socket));
    },
    { ttlMs: 30_000, onUnused: () => arrived.reject(new Error('the child never presented its ticket')) },
  );
  const config = JSON.stringify({ ticket, streamSocketPath: fixture.streamSocketPath, mode });
  return { config, program: arrived.promise };
}

export async function startSession(
  fixture: Fixture,
  options: { readonly mode?: Mode; readonly stdio?: StdioOptions } = {},
): Promise<Session> {
  const { config, program } = await admitted(fixture, options.mode ?? 'exec');
  const child = spawn(process.execPath, [CHILD, config], { stdio: options.stdio ?? 'pipe' });
  fixture.defer(() => child.kill('SIGKILL'));
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.on('data', (chunk: Buffer) => {
      texts[name] += chunk.toString('latin1');
    });
  }
  child.stdin?.on('error', () => undefined);
  const ended = new Promise<number>((resolve) => {
    child.once('exit', (status, signal) => resolve(status ?? (signal === null ? -1 : -2)));
  });
  return {
    program: await program,
    child,
    ended,
    stdout: () => texts.stdout,
    stderr: () => texts.stderr,
  };
}

interface PtyMessage {
  readonly out?: string;
  readonly exit?: number;
  readonly modes?: Modes;
}
export interface Modes {
  readonly canonical: boolean;
  readonly echo: boolean;
}

/** A session on a pseudo-terminal of 24 rows and 80 columns. */
export class PtySession {
  readonly program: FakeProgram;
  readonly #python: ChildProcess;
  readonly #messages: PtyMessage[];
  readonly #wake: (() => void)[];

  private constructor(
    program: FakeProgram,
    python: ChildProcess,
    messages: PtyMessage[],
    wake: (() => void)[],
  ) {
    this.program = program;
    this.#python = python;
    this.#messages = messages;
    this.#wake = wake;
  }

  static async start(fixture: Fixture, mode: Mode = 'tty'): Promise<PtySession> {
    const { config, program } = await admitted(fixture, mode);
    const python = spawn('python3', [PTY, process.execPath, CHILD, config], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    fixture.defer(() => python.stdin.destroy());
    const messages: PtyMessage[] = [];
    const wake: (() => void)[] = [];
    createInterface({ input: python.stdout }).on('line', (line) => {
      messages.push(JSON.parse(line) as PtyMessage);
      for (const resolve of wake.splice(0)) resolve();
    });
    return new PtySession(await program, python, messages, wake);
  }

  tell(command: object): void {
    this.#python.stdin?.write(`${JSON.stringify(command)}\n`);
  }

  async modes(): Promise<Modes> {
    const from = this.#messages.length;
    this.tell({ modes: true });
    return await this.#find((message) => message.modes, from);
  }

  /** Resolves once the terminal has shown the text. */
  async shows(text: string): Promise<void> {
    while (!this.#shown().includes(text)) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  async ended(): Promise<{ status: number; modes: Modes }> {
    const message = await this.#find((found) => (found.exit === undefined ? undefined : found), 0);
    return { status: message.exit as number, modes: message.modes as Modes };
  }

  #shown(): string {
    return this.#messages.map(({ out }) => out ?? '').join('');
  }

  async #find<T>(pick: (message: PtyMessage) => T | undefined, from: number): Promise<T> {
    for (;;) {
      for (const message of this.#messages.slice(from)) {
        const found = pick(message);
        if (found !== undefined) return found;
      }
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }
}
