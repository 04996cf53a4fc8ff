/** Git in a guest, asked about the copy of a workspace. What it answers is the guest's word: checked for form, and bounded. */

import { BangerError } from '../../../core/errors.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { run, type RunInGuestResult } from '../../../guest/run.ts';
import { stagedDigest } from '../../../workspace/staged.ts';

const TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;
const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const STAGED = /^([0-7]{6}) ([0-9a-f]{40,64}) ([0-3])\t/;
/** Looking must not write the index anew, and must not run what the copy's configuration names. */
const ENVIRONMENT = { GIT_OPTIONAL_LOCKS: '0', GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' };

export interface CopyHead {
  readonly commit: string;
  /** Null: a detached HEAD. */
  readonly branch: string | null;
  /** See `stagedDigest`. */
  readonly staged: string;
  /** Commits whose parents the copy lacks. */
  readonly boundary: readonly string[];
}

export class GuestRepository {
  readonly #agent: Pick<AgentClient, 'exec'>;
  readonly #path: string;
  readonly #gitDir: string;
  readonly #signal: AbortSignal;

  constructor(agent: Pick<AgentClient, 'exec'>, path: string, signal: AbortSignal, gitDir = `${path}/.git`) {
    this.#agent = agent;
    this.#path = path;
    this.#gitDir = gitDir;
    this.#signal = signal;
  }

  /** @throws {BangerError} `guest_failed`: there is no git, or no repository with a commit */
  async head(): Promise<CopyHead> {
    const [commit, symbolic, staged, shallow] = await Promise.all([
      this.#git(['rev-parse', '--verify', 'HEAD']),
      this.#git(['symbolic-ref', '--quiet', 'HEAD'], [0, 1]),
      this.#git(['ls-files', '-z', '--stage']),
      this.#run(['cat', `${this.#gitDir}/shallow`], [0, 1]),
    ]);
    const ref = line(symbolic);
    return {
      commit: oidOf(line(commit)),
      branch: ref.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : null,
      staged: stagedDigest(parseStaged(staged.stdout)),
      boundary: shallow.status === 0 ? line(shallow).split('\n').filter(Boolean).map(oidOf) : [],
    };
  }

  /** The commit that the guest says was shipped; undefined: there is no copy that was. */
  async shippedCommit(ref: string): Promise<string | undefined> {
    const found = await this.#run(['cat', `${this.#gitDir}/${ref}`], [0, 1]);
    return found.status === 0 ? oidOf(line(found)) : undefined;
  }

  /** Blob ids of files as they are, in the order given; undefined when they cannot be had for all of them. */
  async blobIds(paths: readonly Buffer[]): Promise<readonly string[] | undefined> {
    // Git reads one to a line.
    if (paths.some((path) => path.includes(0x0a))) return undefined;
    const input = Buffer.concat(paths.flatMap((path) => [path, Buffer.from('\n')]));
    const found = await this.#run(['git', '-C', this.#path, 'hash-object', '--stdin-paths'], [0, 128], input);
    const ids = line(found).split('\n');
    return found.status === 0 && ids.length === paths.length ? ids : undefined;
  }

  async #git(args: readonly string[], okStatuses: readonly number[] = [0]): Promise<RunInGuestResult> {
    return await this.#run(['git', '-C', this.#path, ...args], okStatuses);
  }

  async #run(
    argv: readonly string[],
    okStatuses: readonly number[],
    input?: Uint8Array,
  ): Promise<RunInGuestResult> {
    const result = await run(
      this.#agent,
      { argv, cwd: '/', env: ENVIRONMENT },
      {
        signal: this.#signal,
        timeoutMs: TIMEOUT_MS,
        maxOutputBytes: MAX_OUTPUT_BYTES,
        ...(input && { input }),
      },
    );
    if (okStatuses.includes(result.status)) return result;
    const words = result.stderr.toString('utf8').trim().split('\n').at(-1) ?? '';
    throw new BangerError(
      'guest_failed',
      `${argv[0]} in the guest failed (exit status ${result.status}): ${words.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 200)}`,
      { hint: `look at the copy in the guest: git -C ${this.#path} status` },
    );
  }
}

function line({ stdout }: RunInGuestResult): string {
  return stdout.toString('utf8').trim();
}

function oidOf(text: string): string {
  if (OID.test(text)) return text;
  throw new BangerError('guest_failed', 'the guest names a commit in an unknown form');
}

function parseStaged(listing: Buffer): Parameters<typeof stagedDigest>[0] {
  const lines = listing.toString('latin1').split('\0');
  return lines.filter(Boolean).map((text) => {
    const match = STAGED.exec(text);
    if (match === null) throw new BangerError('guest_failed', 'the guest lists its index in an unknown form');
    const [prefix, mode = '', oid = '', stage = ''] = match;
    return { mode: Number.parseInt(mode, 8), oid, stage: Number(stage), path: text.slice(prefix.length) };
  });
}
