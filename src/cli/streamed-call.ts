/** A long call whose bytes come from stdin or go to stdout: on a stream beside it. */

import type { ResultOf } from '../api/contract.ts';
import type { StreamTicket } from '../api/results/stream.ts';
import { BangerError } from '../core/errors.ts';
import type { CliClient, CliContext } from './cli-context.ts';
import type { LongWork } from './long-call.ts';

export type Carry = (ticket: StreamTicket, signal: AbortSignal) => Promise<void>;

/**
 * @param carry moves the bytes until the daemon ends the stream
 * @param call makes the request that names the ticket
 * @throws {BangerError} what ended the call; when that is only that the bytes ended, what ended them
 */
export async function streamedCall<
  M extends 'snapshot.export' | 'snapshot.import' | 'workspace.export' | 'vm.cp',
>(
  client: CliClient,
  work: LongWork,
  carry: Carry,
  call: (stream: string) => Promise<ResultOf<M>>,
): Promise<ResultOf<M>> {
  const ticket = await client.call('snapshot.stream', {}, work);
  const refused = new AbortController();
  const [called, carried] = await Promise.allSettled([
    call(ticket.ticket).catch((error: unknown) => {
      // Whether it has got as far as the stream or not.
      refused.abort();
      throw error;
    }),
    carry(ticket, AbortSignal.any([work.signal, refused.signal])),
  ]);
  if (called.status === 'fulfilled') {
    if (carried.status === 'rejected') throw carried.reason;
    return called.value;
  }
  const isOnlyTheEnd = called.reason instanceof BangerError && called.reason.code === 'cancelled';
  throw isOnlyTheEnd && carried.status === 'rejected' && isOfThisSide(carried.reason)
    ? carried.reason
    : called.reason;
}

/** Rather than the daemon's having ended the stream, of which the call itself says why. */
function isOfThisSide(error: unknown): boolean {
  return !(error instanceof BangerError && error.code === 'guest_failed');
}

/** What `-` means needs the other end to be no terminal. @throws {BangerError} `usage` */
export function assertPiped(context: CliContext, which: 'stdin' | 'stdout'): void {
  const isTerminal = which === 'stdin' ? context.stdinIsTTY : context.stdout.isTTY;
  if (!isTerminal) return;
  const how = which === 'stdin' ? 'reads the file from stdin' : 'writes the file to stdout';
  throw new BangerError('usage', `"-" ${how}, which is a terminal`, {
    hint: 'name a file, or use a pipe',
  });
}
