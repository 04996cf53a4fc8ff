/** The command line with fakes around it: a daemon that is a table of answers, and terminals that are strings. */

import type { Method, ParamsOf, ResultOf } from '../../src/api/contract.ts';
import type { VmDetail, VmView } from '../../src/api/results/vm.ts';
import type { CallOptions, CliClient, CliIo, CliPorts } from '../../src/cli/cli-context.ts';
import { runCli } from '../../src/cli/run-cli.ts';
import { BangerError } from '../../src/core/errors.ts';

export type Answers = {
  readonly [M in Method]?: (params: ParamsOf<M>, options: CallOptions) => Promise<ResultOf<M>> | ResultOf<M>;
};

export interface FakeOptions {
  readonly answers?: Answers;
  readonly stdinIsTTY?: boolean;
  readonly stdoutIsTTY?: boolean;
  readonly stderrIsTTY?: boolean;
  readonly env?: Record<string, string>;
  readonly session?: CliPorts['session'];
  readonly copyStream?: CliPorts['copyStream'];
  readonly feedStream?: CliPorts['feedStream'];
  readonly pipe?: CliPorts['pipe'];
  readonly become?: CliPorts['become'];
  readonly editFile?: CliPorts['editFile'];
  readonly existingFiles?: readonly string[];
  readonly sshConfigPath?: string;
  readonly homeOfUser?: string;
  readonly readLine?: CliPorts['readLine'];
  readonly readCommandLine?: CliPorts['readCommandLine'];
  /** False: none answers and none can be started. */
  readonly daemon?: boolean;
  /** What the daemon's handshake answers with instead of its version. */
  readonly helloError?: BangerError;
  readonly daemonLogPath?: string;
  /** Given the function that is Ctrl-C. */
  readonly onInterruptible?: (interrupt: () => void) => void;
}

export interface FakeResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly calls: readonly { readonly method: Method; readonly params: unknown }[];
  readonly connects: readonly { readonly start: boolean }[];
  /** Processes started for this command alone. */
  readonly offlines: number;
  /** Processes whose end was waited for. */
  readonly ended: readonly number[];
  readonly closes: number;
  /** Interruptions that were not given back. */
  readonly heldInterruptions: number;
}

/** Where no answer is given, a failure whose status could be taken for one of usage. */
const DEFAULT_ANSWERS: Answers = {
  'snapshot.stream': () => ({ ticket: 'ab'.repeat(32), streamSocketPath: '/run/stream.sock' }),
  'state.diff': () => ({ from: '', to: '', rows: [], truncated: false }),
};

export async function fakeCli(argv: readonly string[], options: FakeOptions = {}): Promise<FakeResult> {
  const calls: { method: Method; params: unknown }[] = [];
  const connects: { start: boolean }[] = [];
  const ended: number[] = [];
  const counts = { closes: 0, held: 0, offlines: 0 };
  const written = { stdout: '', stderr: '' };
  const client: CliClient = {
    async hello() {
      if (options.helloError !== undefined) throw options.helloError;
    },
    closed: Promise.resolve(),
    async call(method, params, callOptions = {}) {
      calls.push({ method, params });
      const answer = options.answers?.[method] ?? DEFAULT_ANSWERS[method];
      if (answer === undefined) throw new BangerError('not_found', `no answer to ${method}`);
      return await answer(params, callOptions);
    },
    close: () => {
      counts.closes += 1;
    },
  };
  const connect = async ({ start }: { readonly start: boolean }): Promise<CliClient | null> => {
    connects.push({ start });
    if (options.daemon !== false) return client;
    if (!start) return null;
    throw new BangerError('unavailable', 'the daemon did not start');
  };
  const output = (name: 'stdout' | 'stderr', isTTY: boolean) => ({
    write: (text: string) => {
      written[name] += text;
    },
    isTTY,
    columns: 120,
  });
  const io: CliIo = {
    stdout: output('stdout', options.stdoutIsTTY ?? false),
    stderr: output('stderr', options.stderrIsTTY ?? false),
    stdinIsTTY: options.stdinIsTTY ?? false,
    env: options.env ?? {},
    cwd: '/home/dev/project',
    umask: 0o022,
    ports: {
      connect: connect as CliPorts['connect'],
      connectOffline: async () => {
        counts.offlines += 1;
        return client;
      },
      session: options.session ?? (async () => 0),
      copyStream: options.copyStream ?? (async () => undefined),
      feedStream: options.feedStream ?? (async () => undefined),
      pipe:
        options.pipe ??
        (async () => ({ result: { kind: 'done', status: 0 }, hasSpoken: true, complaint: '' })),
      become: options.become ?? (async () => 0),
      editFile: options.editFile ?? (async (_path, change) => change(null) !== null),
      fileExists: (path) => options.existingFiles?.includes(path) === true,
      homeOfUser: () => options.homeOfUser ?? null,
      writeBytes: async (bytes) => {
        written.stdout += Buffer.from(bytes).toString();
      },
      processEnd: async (pid) => {
        ended.push(pid);
      },
      readLine: options.readLine ?? (async () => null),
      configPath: () => '/nonexistent/config.toml',
      readCommandLine: options.readCommandLine ?? (() => null),
      daemonLogPath: () => options.daemonLogPath ?? '/nonexistent/bangerd.log',
      sshConfigPath: () => options.sshConfigPath ?? '/state/ssh/config',
      interruption: (onFirst) => {
        const controller = new AbortController();
        counts.held += 1;
        options.onInterruptible?.(() => {
          controller.abort();
          onFirst?.();
        });
        return {
          signal: controller.signal,
          [Symbol.dispose]: () => {
            counts.held -= 1;
          },
        };
      },
    },
  };
  const status = await runCli(argv, io);
  const { closes, offlines, held } = counts;
  return { status, ...written, calls, connects, ended, offlines, closes, heldInterruptions: held };
}

export function fakeVm(name: string, changes: Partial<VmView> = {}): VmView {
  const id = Buffer.from(name).toString('hex').padEnd(32, '0').slice(0, 32);
  return {
    id,
    name,
    imageId: 'ab'.repeat(16),
    guestIp: '127.1.2.3',
    hostAddress: '127.7.7.3',
    state: 'running',
    spec: {
      imageName: 'debian-bookworm',
      vcpus: 4,
      memoryMib: 8192,
      diskSizeBytes: 8 * 1024 ** 3,
      nat: false,
      init: 'agent',
      accel: 'auto',
      driver: 'qemu',
      ephemeral: false,
      publish: [],
    },
    runtime: {},
    stats: {},
    workspace: null,
    createdAt: '2026-01-02T03:04:05.000Z',
    updatedAt: '2026-01-02T03:04:05.000Z',
    lastTouchedAt: '2026-01-02T03:04:05.000Z',
    pid: 4711,
    vmDir: `/state/vms/${id}`,
    ...changes,
  };
}

export function fakeDetail(name: string, changes: Partial<VmDetail> = {}): VmDetail {
  return {
    ...fakeVm(name),
    argv: ['qemu-system-x86_64', '-name', "it's"],
    consoleLogPath: '/state/console.log',
    vmmLogPath: '/state/vmm.log',
    ...changes,
  };
}
