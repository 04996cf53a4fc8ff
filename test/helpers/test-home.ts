/**
 * A banger of its own for a test: its own state, sockets and daemon, on the images that were built once for all tests.
 * What a test leaves behind is a failure of the test: `dispose` looks for it.
 */

import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { VmDetail, VmView } from '../../src/api/results/vm.ts';

export const ROOT = join(import.meta.dirname, '..', '..');
export const BANGER = join(ROOT, 'bin', 'banger');

export interface RunOutcome {
  /** Null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunSettings {
  readonly input?: string | Uint8Array;
  /** stdin stays open and is the test's to write. */
  readonly keepInput?: boolean;
  /** stdout is the test's to read, at its pace; the outcome has none. */
  readonly holdOutput?: boolean;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The run is a failure after this long. Default 180000. */
  readonly timeoutMs?: number;
}

/** A run that can be watched and interrupted. */
export interface Running {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly done: Promise<RunOutcome>;
  /** Everything on stderr so far. */
  readonly stderr: () => string;
  readonly stdout: () => string;
}

/** The directory that `npm test` built the image and the kernel into. */
function artifactsDir(): string {
  const dir = process.env['BANGER_TEST_ARTIFACTS'];
  assert.ok(dir, 'BANGER_TEST_ARTIFACTS must name a state directory with a built image: npm test sets it');
  return dir;
}

/**
 * A home with a template and with what the probe found out on this host. Homes lie beside it, so that its files can be linked.
 * Without `npm test` there is none, and every VM is booted.
 */
const WARM_HOME = process.env['BANGER_TEST_WARM'];
const WITHOUT_TEMPLATES = '[templates]\nmax_size = 0\n';

export class TestHome {
  readonly dir: string;
  readonly env: Record<string, string>;

  /**
   * Without templates unless they are what the test is about: else one is made in the background after the first boot, and
   * its machine is among the processes.
   */
  constructor(settings = WITHOUT_TEMPLATES) {
    this.dir = mkdtempSync(join(tmpdir(), 'bt-'));
    mkdirSync(join(this.dir, 'config'), { mode: 0o700 });
    writeFileSync(join(this.dir, 'config', 'config.toml'), settings, { mode: 0o600 });
    const artifacts = artifactsDir();
    mkdirSync(join(this.dir, 'state'), { mode: 0o700 });
    for (const kind of ['images', 'kernels']) {
      assert.ok(existsSync(join(artifacts, kind)), `${artifacts} has no ${kind}`);
      symlinkSync(join(artifacts, kind), join(this.dir, 'state', kind));
    }
    // What was found out about this host holds for every test.
    const cache = join(WARM_HOME ?? join(artifacts, '..'), 'cache');
    for (const file of ['probe.json', 'tsc-khz.json'].filter((name) => existsSync(join(cache, name)))) {
      mkdirSync(join(this.dir, 'cache'), { recursive: true, mode: 0o700 });
      copyFileSync(join(cache, file), join(this.dir, 'cache', file));
    }
    const { BANGER_TEST_ARTIFACTS: _, BANGER_TEST_WARM: __, NODE_TEST_CONTEXT: ___, ...env } = process.env;
    this.env = { ...(env as Record<string, string>), BANGER_HOME: this.dir, NO_COLOR: '1' };
  }

  /**
   * For tests that are not about booting: VMs have 512 MiB, and new ones start from the template that `npm test` has made
   * once for all tests, in a tenth of the time. None of another size may be created in it, unless with `--cold`: its template
   * would be made in the background.
   */
  static warm(settings = ''): TestHome {
    const common = `${settings}[vm_defaults]\nmemory = "512MiB"\n`;
    if (WARM_HOME === undefined) return new TestHome(`${common}${WITHOUT_TEMPLATES}`);
    const home = new TestHome(`${common}[templates]\nstandby = false\n`);
    const made = join(WARM_HOME, 'state', 'templates');
    for (const key of readdirSync(made)) {
      const dir = join(home.templatesDir, key);
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      for (const file of readdirSync(join(made, key))) linkSync(join(made, key, file), join(dir, file));
    }
    return home;
  }

  /** Starts `banger ARGS…` with pipes for stdio. */
  start(args: readonly string[], settings: RunSettings = {}): Running {
    const child = spawn(BANGER, [...args], {
      env: { ...this.env, ...settings.env },
      cwd: settings.cwd ?? this.dir,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    if (settings.holdOutput !== true) child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => undefined);
    if (settings.keepInput !== true) child.stdin.end(settings.input);
    const timer = setTimeout(() => child.kill('SIGKILL'), settings.timeoutMs ?? 180_000);
    const done = new Promise<RunOutcome>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) => {
        clearTimeout(timer);
        resolve({
          status,
          signal,
          stdout: Buffer.concat(stdout),
          stderr: Buffer.concat(stderr).toString(),
        });
      });
    });
    return {
      child,
      done,
      stderr: () => Buffer.concat(stderr).toString(),
      stdout: () => Buffer.concat(stdout).toString(),
    };
  }

  async run(args: readonly string[], settings: RunSettings = {}): Promise<RunOutcome> {
    return await this.start(args, settings).done;
  }

  /** Runs and expects status 0; stdout as text. */
  async ok(args: readonly string[], settings: RunSettings = {}): Promise<string> {
    const outcome = await this.run(args, settings);
    assert.equal(outcome.status, 0, `banger ${args.join(' ')}: ${outcome.stderr}`);
    return outcome.stdout.toString();
  }

  /** Runs a command in a VM and expects status 0; its stdout without the last line's end. */
  async guest(vm: string, ...argv: readonly string[]): Promise<string> {
    return (await this.ok(['vm', 'exec', vm, '--', ...argv])).replace(/\n$/, '');
  }

  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.ok([...args, '--json'])) as T;
  }

  async show(vm: string): Promise<VmDetail> {
    return await this.json<VmDetail>(['vm', 'show', vm]);
  }

  async vms(): Promise<readonly VmView[]> {
    return await this.json<readonly VmView[]>(['vm', 'list']);
  }

  async daemonPid(): Promise<number> {
    return (await this.json<{ pid: number }>(['daemon', 'status'])).pid;
  }

  log(): string {
    const path = join(this.dir, 'state', 'bangerd.log');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** Processes whose command line or environment names this home: daemons, VMMs, helpers. */
  processes(): readonly { pid: number; command: string }[] {
    const found: { pid: number; command: string }[] = [];
    for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
      const pid = Number(name);
      if (pid === process.pid) continue;
      const command = readProc(pid, 'cmdline').replaceAll('\0', ' ').trim();
      const named = command.includes(this.dir) || readProc(pid, 'environ').includes(this.dir);
      if (named && command !== '') found.push({ pid, command: command.slice(0, 160) });
    }
    return found;
  }

  /** Names in the directory of templates, hidden ones too. */
  templates(): readonly string[] {
    const dir = this.templatesDir;
    return existsSync(dir) ? readdirSync(dir) : [];
  }

  get templatesDir(): string {
    return join(this.dir, 'state', 'templates');
  }

  /** Those of these whose arguments name something, all of them. */
  commandLines(word: string): readonly { pid: number; command: string }[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => ({ pid: Number(name), command: readProc(Number(name), 'cmdline') }))
      .filter(({ command }) => command.includes(word));
  }

  /** Files of VMs that are left: their directories, and their sockets. */
  leftovers(): readonly string[] {
    const dirs = ['state/vms', 'run/vm', 'state/scratch'].map((dir) => join(this.dir, dir));
    return dirs
      .filter((dir) => existsSync(dir))
      .flatMap((dir) => readdirSync(dir).map((name) => join(dir, name)));
  }

  /** No row, no process but the daemon, no file of a VM. */
  async assertNothingLeft(): Promise<void> {
    assert.deepEqual(await this.vms(), []);
    const daemon = await this.daemonPid();
    const others = this.processes().filter(({ pid }) => pid !== daemon);
    assert.deepEqual(others, []);
    assert.deepEqual(this.leftovers(), []);
  }

  /** Ends everything of this home; fails when something could not be ended in good order. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.run(['vm', 'delete', ...(await this.vms()).map((vm) => vm.name)]);
      await this.ok(['daemon', 'stop']);
      await settled(() => this.processes().length === 0);
      assert.deepEqual(this.processes(), [], 'processes are left');
      assert.deepEqual(this.leftovers(), [], 'files of VMs are left');
    } finally {
      for (const { pid } of this.processes()) process.kill(pid, 'SIGKILL');
      rmSync(this.dir, { recursive: true, force: true });
    }
  }
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/** A process that has ended and waits to be reaped counts as gone: proc(5), state Z. */
export function isAlive(pid: number | null): boolean {
  const status = pid === null ? '' : readProc(pid, 'status');
  return status !== '' && !/^State:\s+Z/m.test(status);
}

/**
 * Waits until the condition holds, at most `timeoutMs`; the caller asserts afterwards. Looks for at most half of the time: what is
 * waited for needs the processor, too.
 */
export async function settled(
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const began = performance.now();
    if ((await condition()) || Date.now() >= end) return;
    const tookMs = performance.now() - began;
    await new Promise((resolve) => setTimeout(resolve, Math.max(20, tookMs)));
  }
}
