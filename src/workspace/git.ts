/** Git, run so that reading a repository neither changes it nor runs what it names. */

import { BangerError } from '../core/errors.ts';
import type { CommandRunner, RunResult } from '../host/runner.ts';

const TIMEOUT_MS = 10 * 60_000;
const INSTALL_HINT = 'sudo apt-get install --yes git';

/**
 * No hooks, no file system monitor and no other program that a repository's own configuration could name for the
 * commands used here; no replacement objects. See git-config(1).
 */
const HARDENED: readonly string[] = [
  '--no-pager',
  '--literal-pathspecs',
  ...['core.hooksPath=/dev/null', 'core.fsmonitor=false', 'core.fsync=none', 'gc.auto=0'].flatMap(
    (setting) => ['-c', setting],
  ),
];

/** What decides which configuration is read stays; everything else that points git somewhere is removed. */
const KEPT_VARIABLES = new Set([
  'GIT_CONFIG_GLOBAL',
  'GIT_CONFIG_SYSTEM',
  'GIT_CONFIG_NOSYSTEM',
  'GIT_DISCOVERY_ACROSS_FILESYSTEM',
]);

export interface GitOptions {
  readonly input?: string | Uint8Array;
  /** Added to the environment: where index and working tree are, for a checkout elsewhere. */
  readonly env?: Readonly<Record<string, string>>;
  /** Settings for this call alone, `name=value`. */
  readonly config?: readonly string[];
  readonly okStatuses?: readonly number[];
  readonly maxOutputBytes?: number;
}

export interface HostGit {
  /** @throws {BangerError} as `CommandRunner.run`, and `no_space`; `dependency_missing` names the command that installs git */
  run(args: readonly string[], options?: GitOptions): Promise<RunResult>;
}

export function hostGit(runner: CommandRunner, dir: string, signal: AbortSignal): HostGit {
  const run = async (args: readonly string[], options: GitOptions = {}): Promise<RunResult> => {
    const settings = (options.config ?? []).flatMap((setting) => ['-c', setting]);
    try {
      return await runner.run(['git', '-C', dir, ...HARDENED, ...settings, ...args], {
        env: { ...gitEnvironment(), ...options.env },
        signal,
        timeoutMs: TIMEOUT_MS,
        ...(options.input === undefined ? {} : { input: options.input }),
        ...(options.okStatuses === undefined ? {} : { okStatuses: options.okStatuses }),
        ...(options.maxOutputBytes === undefined ? {} : { maxOutputBytes: options.maxOutputBytes }),
      });
    } catch (error) {
      if (error instanceof BangerError && error.code === 'dependency_missing') {
        throw new BangerError('dependency_missing', error.message, { hint: INSTALL_HINT, cause: error });
      }
      if (error instanceof BangerError && error.code === 'io_error') throw gitFailed(dir, error);
      throw error;
    }
  };
  return { run };
}

function gitFailed(dir: string, error: BangerError): BangerError {
  const message = `${dir}: ${error.message}`;
  if (/no space left on device|disk quota exceeded/i.test(message))
    return new BangerError('no_space', message, { cause: error, hint: 'df -h shows what is full' });
  return new BangerError('io_error', message, {
    cause: error,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}

function gitEnvironment(): Record<string, string | undefined> {
  const removed = Object.keys(process.env).filter(
    (key) => key.startsWith('GIT_') && !KEPT_VARIABLES.has(key),
  );
  return {
    ...Object.fromEntries(removed.map((key) => [key, undefined])),
    LC_ALL: 'C',
    // Reading must not rewrite the host's index.
    GIT_OPTIONAL_LOCKS: '0',
    GIT_TERMINAL_PROMPT: '0',
    // Missing objects of a partial clone are not fetched behind the user's back.
    GIT_NO_LAZY_FETCH: '1',
    GIT_ALLOW_PROTOCOL: 'none',
    GIT_NO_REPLACE_OBJECTS: '1',
  };
}
