/** A stream that is only written: `vm snapshot import -`. */

import type { StreamTicket } from '../../api/results/stream.ts';
import { openStream } from '../../rpc/stream-client.ts';
import { failureOf } from './failure.ts';
import { pumpInput } from './input-pump.ts';
import type { SessionInput } from './types.ts';

export interface InputStreamOptions {
  /** The result of `snapshot.stream`. */
  readonly ticket: StreamTicket;
  readonly stdin: SessionInput;
  /** Hangs up: rejects with `cancelled`. */
  readonly signal: AbortSignal;
}

/** Copies stdin until the other side has ended the stream. @throws {BangerError} what failed; `cancelled` */
export async function runInputStream({ ticket, stdin, signal }: InputStreamOptions): Promise<void> {
  const ignore = (_chunk: Uint8Array, taken: () => void): void => taken();
  const stream = openStream({
    ...ticket,
    signal,
    onStdout: ignore,
    onStderr: ignore,
    onWritable: () => input.resume(),
  });
  const input = pumpInput(stdin, stream);
  try {
    const result = await stream.result;
    if (result.kind === 'failed') throw failureOf(result);
  } finally {
    input.stop();
  }
}
