/** Git in the guest, run so that it changes nothing of the repository there but what it is asked to. */

import { printable } from '../core/channel/close.ts';
import { BangerError } from '../core/errors.ts';
import type { GuestProgramResult, GuestPrograms } from './guest-programs.ts';

const TIMEOUT_MS = 10 * 60_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const MAX_LAST_WORDS = 300;

/**
 * No hooks, no file system monitor, no cache of what is untracked (both may hide changes), no shared index. Entries that a
 * sparse checkout left out count as there while they are not, and as changed when they are (git-config(1),
 * sparse.expectFilesOutsideOfPatterns). What is written is thrown away again: it need not be compressed or reach the disk.
 */
const HARDENED: readonly string[] = [
  '--no-pager',
  '--literal-pathspecs',
  ...[
    'safe.directory=*',
    'core.hooksPath=/dev/null',
    'core.fsmonitor=false',
    'core.untrackedCache=false',
    'core.splitIndex=false',
    'core.sparseCheckout=true',
    'sparse.expectFilesOutsideOfPatterns=false',
    'index.sparse=false',
    // See guest-git-config.ts: the guest may have none of ours any more.
    'core.preloadIndex=false',
    'core.safecrlf=false',
    'core.looseCompression=0',
    'core.fsync=none',
    'gc.auto=0',
  ].flatMap((setting) => ['-c', setting]),
];

const ENVIRONMENT: Readonly<Record<string, string>> = {
  LC_ALL: 'C',
  GIT_OPTIONAL_LOCKS: '0',
  GIT_TERMINAL_PROMPT: '0',
  GIT_NO_LAZY_FETCH: '1',
  GIT_ALLOW_PROTOCOL: 'none',
  GIT_NO_REPLACE_OBJECTS: '1',
};

export interface GuestGitOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  readonly okStatuses?: readonly number[];
  readonly maxOutputBytes?: number;
  readonly onStdout?: (bytes: Uint8Array) => Promise<void>;
}

/** A repository in a guest. */
export interface GuestRepo {
  /** Top of its working tree, absolute. */
  readonly path: string;
  readonly programs: GuestPrograms;
  readonly signal: AbortSignal;
}

/** @throws {BangerError} as GuestPrograms; `guest_failed` (another status; the message ends with git's last words) */
export async function guestGit(
  repo: GuestRepo,
  args: readonly string[],
  options: GuestGitOptions = {},
): Promise<GuestProgramResult> {
  const { input, onStdout } = options;
  const result = await repo.programs.run(
    {
      argv: ['git', ...HARDENED, ...args],
      cwd: repo.path,
      env: { ...ENVIRONMENT, ...options.env },
      ...(input !== undefined && { input: typeof input === 'string' ? Buffer.from(input) : input }),
    },
    {
      signal: repo.signal,
      timeoutMs: TIMEOUT_MS,
      maxOutputBytes: options.maxOutputBytes ?? MAX_OUTPUT_BYTES,
      ...(onStdout !== undefined && { onStdout }),
    },
  );
  if ((options.okStatuses ?? [0]).includes(result.status)) return result;
  throw guestGitFailed(repo, result);
}

export function guestGitFailed(repo: GuestRepo, result: GuestProgramResult): BangerError {
  const words = lastWords(result.stderr);
  if (/no space left on device/i.test(words)) {
    return new BangerError('no_space', `the disk of the VM is full: ${words}`, {
      hint: 'df -h in the VM shows what is full',
    });
  }
  const why = words === '' ? `exit status ${result.status}` : words;
  return new BangerError('guest_failed', `git failed at ${repo.path} in the VM: ${why}`, {
    hint: `look at it there: git -C ${repo.path} status`,
  });
}

/** What git says it died of, else the last line on stderr; safe to print. */
export function lastWords(stderr: Uint8Array): string {
  const lines = Buffer.from(stderr).toString('utf8').trim().split('\n');
  const line = lines.findLast((one) => one.startsWith('fatal: ')) ?? lines.at(-1) ?? '';
  return printable(line.replace(/^(?:fatal|error): /, '')).slice(0, MAX_LAST_WORDS);
}
