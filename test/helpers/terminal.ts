/** `banger` on a pseudo-terminal of 24 rows and 80 columns that the test drives: test/rpc/pty.py is the terminal. */

import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { BANGER, settled, type TestHome } from './test-home.ts';

const PTY = join(import.meta.dirname, '..', 'rpc', 'pty.py');
const TIMEOUT_MS = 60_000;

interface Modes {
  readonly canonical: boolean;
  readonly echo: boolean;
}

interface Message {
  readonly pid?: number;
  readonly out?: string;
  readonly exit?: number;
  readonly modes?: Modes;
}

export class Terminal implements AsyncDisposable {
  readonly #python: ChildProcessByStdio<Writable, Readable, null>;
  readonly #messages: Message[] = [];

  constructor(home: TestHome, args: readonly string[]) {
    this.#python = spawn('python3', [PTY, BANGER, ...args], {
      env: { ...home.env, TERM: 'xterm' },
      cwd: home.dir,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    createInterface({ input: this.#python.stdout }).on('line', (line) => {
      this.#messages.push(JSON.parse(line) as Message);
    });
  }

  write(text: string): void {
    this.#tell({ write: text });
  }

  resize(rows: number, columns: number): void {
    this.#tell({ resize: [rows, columns] });
  }

  /** Waits until the terminal has shown the text, not counting the first `from` characters. */
  async shows(text: string, from = 0): Promise<void> {
    await settled(() => this.shown().slice(from).includes(text) || this.#exit() !== undefined, TIMEOUT_MS);
    const shown = this.shown().slice(from);
    assert.ok(shown.includes(text), `the terminal never showed ${JSON.stringify(text)}, but: ${shown}`);
  }

  /** Everything shown so far, without escape sequences and carriage returns. */
  shown(): string {
    const text = this.#messages.map(({ out }) => out ?? '').join('');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it is about control characters
    return text.replace(/\u001b\[[?0-9;]*[A-Za-z]|\r/g, '');
  }

  /** Exit status as a shell shows it, and the terminal's modes afterwards. */
  async ended(): Promise<{ status: number; modes: Modes }> {
    await settled(() => this.#exit() !== undefined, TIMEOUT_MS);
    const exit = this.#exit();
    assert.ok(exit?.exit !== undefined && exit.modes, `it never ended, but showed: ${this.shown()}`);
    return { status: exit.exit, modes: exit.modes };
  }

  /** What runs on it is killed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#python.stdin.end();
    await settled(() => this.#python.exitCode !== null || this.#python.signalCode !== null);
  }

  #exit(): Message | undefined {
    return this.#messages.find((message) => message.exit !== undefined);
  }

  #tell(command: object): void {
    this.#python.stdin.write(`${JSON.stringify(command)}\n`);
  }
}
