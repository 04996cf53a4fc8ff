/** The VMM as a process of the host: started so that it outlives this one, found again, watched, ended. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { open, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../core/errors.ts';
import { systemReason } from '../core/system-error.ts';
import { fileError } from '../host/files.ts';
import { isSameProcess, type ProcessIdentity, processIdentity } from '../host/proc.ts';
import type { MachineExit } from './driver.ts';
import { lastWords } from './last-words.ts';

/** What messages call the program, and how to get it. */
export interface VmmProgram {
  readonly title: string;
  readonly installHint: string;
}

export interface SpawnOptions {
  readonly program: VmmProgram;
  /** stdout and stderr are appended to it; made with mode 0600. */
  readonly logPath: string;
  /** Gets stdout in the log's place: appended, made with mode 0600. */
  readonly stdoutPath?: string;
  /** A log that the program writes itself, below its own directory: read for its last words, too. */
  readonly ownLogPath?: string;
  /** Default `/`. */
  readonly cwd?: string;
  /** A descriptor of this process that the new one gets as INHERITED_FD. The caller closes its own. */
  readonly inheritFd?: number;
}

/** Where a process finds what it was handed beside its log. */
export const INHERITED_FD = 3;

const POLL_MS = 2000;
const KILL_TIMEOUT_MS = 10_000;
const KILL_POLL_MS = 5;
/** The environment holds the user's secrets, which a VMM that a guest took over could read. */
const PASSED_ENVIRONMENT = ['PATH', 'LD_LIBRARY_PATH', 'QEMU_MODULE_DIR', 'TMPDIR'];
const UNKNOWN_EXIT: MachineExit = { exitCode: null, signal: null };

/** How to read the last words of one process from a log that others wrote to before. */
interface LogPosition {
  readonly path: string;
  readonly fromByte: number;
}

/** Of a process that was started earlier: all of each log counts. */
export interface AdoptOptions {
  readonly title: string;
  readonly logPaths: readonly string[];
  readonly pollMs?: number;
}

interface Voice {
  readonly title: string;
  readonly logs: readonly LogPosition[];
}

export class VmmProcess {
  readonly identity: ProcessIdentity;
  readonly #voice: Voice;
  /** Settles once the process is gone, unless `release` came first. Never rejects. */
  readonly exited: Promise<MachineExit>;
  readonly #exited = Promise.withResolvers<MachineExit>();
  readonly #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #onExit = (exitCode: number | null, signal: string | null): void =>
    this.#settle({ exitCode, signal });
  #exit: MachineExit | undefined;

  private constructor(identity: ProcessIdentity, voice: Voice, child: ChildProcess | undefined) {
    this.identity = identity;
    this.#voice = voice;
    this.exited = this.#exited.promise;
    this.#child = child;
    if (child === undefined) return;
    if (child.exitCode !== null || child.signalCode !== null) this.#onExit(child.exitCode, child.signalCode);
    else child.once('exit', this.#onExit);
  }

  /**
   * Starts `argv` in a session of its own, with nothing open but its log and what it is handed.
   * @throws {BangerError} `dependency_missing`, `vmm_failed` (cannot be executed, or gone before it could be named;
   *   with its last words), `no_space`, `permission`, `io_error` (the log)
   */
  static async spawn(argv: readonly [string, ...string[]], options: SpawnOptions): Promise<VmmProcess> {
    const [path, ...args] = argv;
    const { program, logPath, stdoutPath, ownLogPath, inheritFd, cwd = '/' } = options;
    await using file = await openLog(logPath);
    await using stdout = await openLog(stdoutPath ?? logPath);
    const logs = [{ path: logPath, fromByte: (await file.stat()).size }];
    if (ownLogPath !== undefined) logs.push({ path: ownLogPath, fromByte: 0 });
    const voice = { title: program.title, logs };
    const child = spawn(path, args, {
      detached: true,
      cwd,
      stdio: childStdio(stdout.fd, file.fd, inheritFd),
      env: { ...pick(process.env, PASSED_ENVIRONMENT), LC_ALL: 'C.UTF-8' },
    });
    if (child.pid === undefined) throw spawnError(path, program, (await once(child, 'error'))[0]);
    // Node has not had a chance to reap it: the pid is still this child's, alive or not.
    const identity = processIdentity(child.pid);
    if (identity !== undefined) return new VmmProcess(identity, voice, child);
    const [exitCode, signal] = (await once(child, 'exit')) as [number | null, string | null];
    throw await deathError(voice, { exitCode, signal });
  }

  /** A process that an earlier daemon started; undefined when it is gone. */
  static adopt(identity: ProcessIdentity, options: AdoptOptions): VmmProcess | undefined {
    if (!isSameProcess(identity)) return undefined;
    const { title, logPaths, pollMs = POLL_MS } = options;
    const logs = logPaths.map((path) => ({ path, fromByte: 0 }));
    const vmm = new VmmProcess(identity, { title, logs }, undefined);
    vmm.#timer = setInterval(() => vmm.check(), pollMs);
    return vmm;
  }

  /** Undefined while it runs, as far as is known here. */
  get exit(): MachineExit | undefined {
    return this.#exit;
  }

  /** Looks now whether the process is gone: for one that is no child, whose end nobody reports. */
  check(): void {
    if (this.#child === undefined && !isSameProcess(this.identity)) this.#settle(UNKNOWN_EXIT);
  }

  /**
   * SIGKILL to exactly this process, then waits until it is gone. Idempotent; also after `release`.
   * @throws {BangerError} `vmm_failed` (still there after 10 s), `permission`
   */
  async kill(): Promise<void> {
    const deadline = performance.now() + KILL_TIMEOUT_MS;
    // Verified at the last moment: a pid may be somebody else's by now.
    if (isSameProcess(this.identity)) sendKill(this.identity.pid);
    while (isSameProcess(this.identity)) {
      if (performance.now() > deadline) {
        const { pid } = this.identity;
        throw new BangerError('vmm_failed', `process ${pid} is still there 10 s after it was killed`, {
          hint: `it may hang in the host's kernel: cat /proc/${pid}/stack as root shows where`,
        });
      }
      await sleep(KILL_POLL_MS);
    }
    this.check();
  }

  /** Stops watching; the process goes on. Idempotent. */
  release(): void {
    clearInterval(this.#timer);
    this.#child?.off('exit', this.#onExit);
    this.#child?.unref();
  }

  /** How it ended, with its last words. Only once it is gone. */
  async deathError(): Promise<BangerError> {
    return await deathError(this.#voice, this.#exit ?? UNKNOWN_EXIT);
  }

  #settle(exit: MachineExit): void {
    if (this.#exit !== undefined) return;
    this.#exit = exit;
    this.release();
    this.#exited.resolve(exit);
  }
}

/**
 * Standard streams, and the log in the place of every descriptor that this process itself was left with by its parent:
 * a VM that lives for days must not hold a shell's pipe open. (Node's own descriptors close on exec. "ignore" for a
 * number above 2 leaves that number as it is.)
 */
function childStdio(stdoutFd: number, logFd: number, inheritFd: number | undefined): ('ignore' | number)[] {
  inheritedFds ??= findInheritedFds();
  const stdio: ('ignore' | number)[] = ['ignore', stdoutFd, logFd];
  for (const fd of inheritedFds) {
    while (stdio.length < fd) stdio.push('ignore');
    stdio[fd] = logFd;
  }
  if (inheritFd !== undefined) stdio[INHERITED_FD] = inheritFd;
  return stdio;
}

const O_CLOEXEC = 0o2000000;
const MAX_INHERITED_FD = 1023;
let inheritedFds: readonly number[] | undefined;

/** Descriptors that survive an exec, ascending: proc(5), /proc/pid/fdinfo. */
function findInheritedFds(): readonly number[] {
  return readdirSync('/proc/self/fdinfo')
    .map(Number)
    .filter((fd) => fd > 2 && fd <= MAX_INHERITED_FD && !closesOnExec(fd))
    .sort((a, b) => a - b);
}

function closesOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
    return (Number.parseInt(flags ?? '0', 8) & O_CLOEXEC) !== 0;
  } catch {
    // Closed meanwhile: the one that listed the directory.
    return true;
  }
}

async function openLog(path: string): Promise<Awaited<ReturnType<typeof open>>> {
  try {
    return await open(path, 'a', 0o600);
  } catch (error) {
    throw fileError(`cannot write ${path}`, error);
  }
}

function spawnError(path: string, program: VmmProgram, cause: NodeJS.ErrnoException): BangerError {
  if (cause.code === 'ENOENT') {
    return new BangerError('dependency_missing', `the program "${path}" is not installed`, {
      hint: program.installHint,
      cause,
    });
  }
  return new BangerError(
    'vmm_failed',
    `"${path}" cannot be started: ${systemReason(cause) ?? cause.message}`,
    {
      cause,
    },
  );
}

async function deathError({ title, logs }: Voice, exit: MachineExit): Promise<BangerError> {
  const said = await Promise.all(logs.map(({ path, fromByte }) => lastWords(path, fromByte)));
  const words = said.filter((text) => text !== '').join('\n');
  const how =
    exit.signal ?? (exit.exitCode === null ? 'exit status unknown' : `exit status ${exit.exitCode}`);
  return new BangerError(
    'vmm_failed',
    `${title} ended (${how})${words === '' ? ' without a word' : `: ${words}`}`,
    { hint: `its whole output is in ${logs.map(({ path }) => path).join(' and ')}` },
  );
}

function sendKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ESRCH') return;
    throw new BangerError('permission', `cannot end process ${pid}: ${systemReason(cause)}`, { cause });
  }
}

function pick(environment: NodeJS.ProcessEnv, names: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(names.map((name) => [name, environment[name]]));
}

/** Where the process writes its stderr: proc(5), /proc/pid/fd. Only for messages. */
export async function logOf(pid: number): Promise<string> {
  return await readlink(`/proc/${pid}/fd/2`).catch(() => '');
}

/** A VMM that made it itself would make it readable for others. */
export async function makePrivateFile(path: string): Promise<void> {
  try {
    await (await open(path, 'a', 0o600)).close();
  } catch (error) {
    throw fileError(`cannot write ${path}`, error);
  }
}
