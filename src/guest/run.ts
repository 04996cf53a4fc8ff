/** Runs a command in the guest on the daemon's own behalf and collects what it prints. */

import { exitStatusOf } from '../core/channel/close.ts';
import type { AgentClient } from './agent-client.ts';
import { collect } from './collect.ts';
import type { Input } from './input-pump.ts';
import type { ExecRequest } from './payloads.ts';

export interface RunInGuestOptions {
  readonly signal?: AbortSignal;
  /** No limit when absent: a command may take as long as it likes. */
  readonly timeoutMs?: number;
  /** Cap on stdout and on stderr each; more is an error. */
  readonly maxOutputBytes: number;
  /** Another cap on stderr. */
  readonly maxStderrBytes?: number;
  /** Takes stdout as it comes, at its own pace; the result has none. What it throws ends the command and is thrown. */
  readonly onStdout?: (bytes: Uint8Array) => Promise<void>;
  /** Sent to the command's standard input, then its end. /dev/null when absent. */
  readonly input?: Input;
}

export interface RunInGuestResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** The exit status; 128 + n when signal n ended the command. */
  readonly status: number;
}

/**
 * @throws {BangerError} `guest_failed` (it could not be started; the source of the input failed), `limit_exceeded`
 *   (output, or too many commands), `timeout`, `cancelled`, `channel_broken`, `bad_request`
 */
export async function run(
  client: Pick<AgentClient, 'exec'>,
  request: ExecRequest,
  options: RunInGuestOptions,
): Promise<RunInGuestResult> {
  const { stdout, stderr, result } = await collect(
    () => client.exec({ ...request, stdin: options.input !== undefined }),
    {
      what: `run ${request.argv[0] ?? 'a shell'} in the guest`,
      timeoutMs: options.timeoutMs,
      signal: options.signal,
      maxOutputBytes: options.maxOutputBytes,
      maxStderrBytes: options.maxStderrBytes,
      onStdout: options.onStdout,
      input: options.input,
    },
  );
  return { stdout, stderr, status: exitStatusOf(result) };
}
