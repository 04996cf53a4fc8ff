/** A home with a state and no daemon, and the real program working on it. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDatabase } from '../../src/store/open.ts';
import { openStore } from '../../src/store/store.ts';
import { fillState } from '../helpers/big-state.ts';
import { someImage, someVm } from '../helpers/store-records.ts';
import { isAlive } from '../helpers/test-home.ts';

const PROGRAM = join(import.meta.dirname, '../../src/main/banger.ts');

export interface Outcome {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Started {
  readonly child: ChildProcess;
  readonly done: Promise<Outcome>;
}

export interface StartOptions {
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export class StateHome implements AsyncDisposable {
  /** Of the test; the home is in it and need not exist. */
  readonly base = mkdtempSync(join(tmpdir(), 'banger-state-'));
  readonly dir = join(this.base, 'home');
  readonly stateDir = join(this.dir, 'state');
  readonly database = join(this.stateDir, 'state.db');

  /** Rows for VMs of these names, beside those that are there. */
  addVms(...names: readonly string[]): void {
    mkdirSync(this.stateDir, { recursive: true, mode: 0o700 });
    using store = openStore(this.database);
    const image = store.listImages()[0] ?? someImage();
    if (store.listImages().length === 0) store.upsertImage(image);
    for (const name of names) store.insertVm(someVm(image.id, { name }), '127.77.0');
  }

  fill(megabytes: number): void {
    this.addVms();
    using database = openDatabase(this.database);
    fillState(database, megabytes);
  }

  vmNames(): readonly string[] {
    using store = openStore(this.database);
    return store
      .listVms()
      .map(({ name }) => name)
      .toSorted((a, b) => (a < b ? -1 : 1));
  }

  /** A process group of its own, as a terminal has it. */
  start(args: readonly string[], options: StartOptions = {}): Started {
    const { NODE_TEST_CONTEXT: _, BANGER_HOME: __, ...env } = process.env;
    const child = spawn(process.execPath, [PROGRAM, ...args], {
      cwd: '/',
      detached: true,
      env: { ...env, BANGER_HOME: this.dir, NO_COLOR: '1', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.uid !== undefined && { uid: options.uid, gid: options.uid }),
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('data', (chunk: Buffer) => {
        output[name] += chunk.toString();
      });
    }
    const done = once(child, 'close').then(([status, signal]: unknown[]) => ({
      status: status as number | null,
      signal: signal as string | null,
      ...output,
    }));
    return { child, done };
  }

  run(args: readonly string[], options: StartOptions = {}): Promise<Outcome> {
    return this.start(args, options).done;
  }

  async ok(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(args);
    assert.equal(status, 0, `banger ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  async json<T>(...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.ok(...args, '--json')) as T;
  }

  /** Every file below the home, with all that could change about it. Nothing is opened but what is no database. */
  fingerprint(): readonly string[] {
    if (!existsSync(this.dir)) return [];
    return readdirSync(this.dir, { recursive: true, encoding: 'utf8' })
      .toSorted()
      .map((name) => {
        const stat = lstatSync(join(this.dir, name), { bigint: true });
        return [name, stat.ino, stat.mode, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ');
      });
  }

  files(dir = this.stateDir): readonly string[] {
    return existsSync(dir) ? readdirSync(dir).toSorted() : [];
  }

  /** Of this home, whoever started them. */
  processes(): readonly number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter(
        (pid) =>
          pid !== process.pid && isAlive(pid) && environment(pid).includes(`BANGER_HOME=${this.dir}\0`),
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
    rmSync(this.base, { recursive: true, force: true });
  }
}

function environment(pid: number): string {
  try {
    return `${readFileSync(`/proc/${pid}/environ`, 'utf8')}\0`;
  } catch {
    return '';
  }
}
