/** The command line's surroundings when it is a process: its streams, signals, files and daemon. */

import { existsSync, fstatSync, readSync } from 'node:fs';
import { userInfo } from 'node:os';
import { isatty } from 'node:tty';
import { connectDaemon } from './connect/connect-daemon.ts';
import { HANDSHAKE_VERSION } from '../core/buildinfo.ts';
import { BangerError } from '../core/errors.ts';
import { type BangerPaths, resolvePaths } from '../host/paths.ts';
import type { CliClient, CliIo, CliPorts, Interruption } from './cli-context.ts';
import { StreamOutput } from './output/stream-output.ts';

const STDIN_DESCRIPTOR = 0;
/** Major 1, minor 3: null(4). */
const NULL_DEVICE = 0x103;
/** Above what it takes at most to remove VMs made with --rm. */
const STOP_TIMEOUT_MS = 60_000;
const LINE_FEED = 0x0a;
const MAX_COMMAND_LINE = 4096;
const CLEAR_LINE = '\r\u001b[2K';

export interface ProcessIo extends CliIo {
  readonly stdout: StreamOutput;
  readonly stderr: StreamOutput;
}

/** @param daemonArgv the program to start when no daemon answers */
export function processIo(daemonArgv: readonly [string, ...string[]]): ProcessIo {
  const stdout = new StreamOutput(() => process.stdout);
  const stderr = new StreamOutput(() => process.stderr);
  return {
    stdout,
    stderr,
    // Not process.stdin.isTTY: making that stream costs as much as asking the daemon.
    stdinIsTTY: isatty(0),
    env: process.env,
    cwd: currentDirectory(),
    umask: process.umask(),
    ports: processPorts(daemonArgv, stdout, stderr),
  };
}

function processPorts(
  daemonArgv: readonly [string, ...string[]],
  stdout: StreamOutput,
  stderr: StreamOutput,
): CliPorts {
  return {
    connect: connector(daemonArgv) as CliPorts['connect'],
    async connectOffline() {
      const { connectOffline } = await import('./connect/connect-offline.ts');
      return connectOffline({
        argv: daemonArgv,
        version: HANDSHAKE_VERSION,
        showStderr: process.env['BANGER_DEBUG'] === '1',
      });
    },
    async session(client, params, onFailure, options = {}) {
      const wantsStdin = params.stdin !== false && !isNullDevice(STDIN_DESCRIPTOR);
      // Without a terminal to ask (vm exec -t in a script) programs get the size of a VT100.
      const rows = process.stdout.rows ?? 24;
      const columns = process.stdout.columns ?? 80;
      // Loaded while the daemon works.
      const [ticket, { runExecSession }] = await Promise.all([
        client.call('vm.exec', { ...params, stdin: wantsStdin, rows, columns }),
        import('./exec-session/run-exec-session.ts'),
      ]);
      const { onTicket, ...limits } = options;
      onTicket?.(ticket);
      return await runExecSession({
        ticket,
        tty: params.tty ?? false,
        stdin: wantsStdin ? process.stdin : null,
        stdout: process.stdout,
        stderr: process.stderr,
        onFailure,
        ...limits,
      });
    },
    async copyStream(ticket, signal) {
      const { runOutputStream } = await import('./exec-session/run-output-stream.ts');
      await runOutputStream({ ticket, stdout: process.stdout, stderr: process.stderr, signal });
    },
    async feedStream(ticket, signal) {
      const { runInputStream } = await import('./exec-session/run-input-stream.ts');
      await runInputStream({ ticket, stdin: process.stdin, signal });
    },
    async pipe(ticket) {
      const { runBytePipe } = await import('./exec-session/run-byte-pipe.ts');
      return await runBytePipe({ ticket, stdin: process.stdin, stdout: process.stdout });
    },
    async become(program, args, debianPackage) {
      const { become } = await import('./become.ts');
      return become(program, args, debianPackage);
    },
    async editFile(path, change) {
      const { editFile } = await import('./edit-file.ts');
      return await editFile(path, change);
    },
    fileExists: existsSync,
    homeOfUser,
    writeBytes: (bytes) => stdout.writeBytes(bytes),
    interruption: (onFirst) => interruption(stderr, onFirst),
    async processEnd(pid) {
      const { processEnd } = await import('./connect/process-end.ts');
      if (await processEnd(pid, STOP_TIMEOUT_MS)) return;
      throw new BangerError(
        'timeout',
        `the daemon (pid ${pid}) has not ended within ${STOP_TIMEOUT_MS / 1000} s`,
        {
          hint: `banger daemon logs; to end it at once, which its VMs survive: kill -KILL ${pid}`,
        },
      );
    },
    readLine,
    readCommandLine,
    daemonLogPath: () => paths().logFile,
    configPath: () => paths().configFile,
    sshConfigPath: () => paths().sshConfigFile,
  };
}

function connector(
  daemonArgv: readonly [string, ...string[]],
): (options: { readonly start: boolean }) => Promise<CliClient | null> {
  return async ({ start }) => {
    const { socketPath, logFile } = paths();
    try {
      return await connectDaemon({
        socketPath,
        logPath: logFile,
        version: HANDSHAKE_VERSION,
        daemonArgv: start ? daemonArgv : null,
      });
    } catch (error) {
      if (!start && error instanceof BangerError && error.code === 'unavailable') return null;
      throw error;
    }
  };
}

function interruption(stderr: StreamOutput, onFirst: (() => void) | undefined): Interruption {
  const controller = new AbortController();
  const onSigint = () => {
    if (controller.signal.aborted) {
      if (stderr.isTTY) stderr.write(CLEAR_LINE);
      // Die of it, as if it had not been caught: the shell sees that, and status 130.
      process.off('SIGINT', onSigint);
      process.kill(process.pid, 'SIGINT');
      return;
    }
    controller.abort();
    onFirst?.();
  };
  process.on('SIGINT', onSigint);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      process.off('SIGINT', onSigint);
    },
  };
}

/**
 * Whether nothing can be read there (scripts and agents mostly run with stdin at /dev/null). Asked before `process.stdin`
 * is touched, which would load Node's file streams to read it.
 */
function isNullDevice(descriptor: number): boolean {
  try {
    const { rdev } = fstatSync(descriptor);
    return rdev === NULL_DEVICE;
  } catch {
    // Closed: node gives an empty stream for it.
    return false;
  }
}

/** Byte by byte: what follows is for somebody else. */
function readCommandLine(): string | null {
  const byte = Buffer.alloc(1);
  let line = '';
  while (line.length < MAX_COMMAND_LINE && readSync(STDIN_DESCRIPTOR, byte, 0, 1, null) === 1) {
    if (byte[0] === LINE_FEED) return line;
    line += byte.toString('latin1');
  }
  return null;
}

async function readLine(question: string): Promise<string | null> {
  const { createInterface } = await import('node:readline');
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await new Promise((resolve) => {
      reader.once('close', () => resolve(null));
      reader.question(question, resolve);
    });
  } finally {
    reader.close();
  }
}

function homeOfUser(): string | null {
  try {
    return userInfo().homedir;
  } catch {
    return null;
  }
}

function paths(): BangerPaths {
  return resolvePaths(process.env, process.getuid?.() ?? 0);
}

/** A shell may stand in a directory that was deleted; only relative paths need one. */
function currentDirectory(): string {
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}
