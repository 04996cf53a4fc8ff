/**
 * Tickets for streams: an RPC answer names one, a second connection presents it and then belongs to whoever issued it.
 * Valid once, for seconds. Held only as hashes, so that looking one up takes the same time whatever was presented.
 */

import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { BangerError } from '../core/errors.ts';

export const TICKET_HEX_DIGITS = 64;
const DEFAULT_TTL_MS = 10_000;
const DEFAULT_MAX_OPEN = 1024;

export interface IssueOptions {
  /** How long the ticket is valid. Default 10000. */
  readonly ttlMs?: number;
  /** Withdraws a ticket that was not presented yet. */
  readonly signal?: AbortSignal;
  /** Told once when the ticket ends without having been presented: expired, withdrawn, or the booth closed. */
  readonly onUnused?: () => void;
}

interface OpenTicket<S> {
  readonly handler: (socket: S) => void;
  readonly end: (used: boolean) => void;
}

/** A hash, because comparing hashes in variable time tells nothing about the ticket. */
function keyOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64');
}

export class TicketBooth<S = Socket> {
  readonly #open = new Map<string, OpenTicket<S>>();
  readonly #maxOpen: number;

  constructor(options: { readonly maxOpen?: number } = {}) {
    this.#maxOpen = options.maxOpen ?? DEFAULT_MAX_OPEN;
  }

  /** Tickets issued and not presented yet. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * @param handler gets the connection that presents the ticket. The ticket has been read from it; what came after waits in
   *   its buffer until the handler listens. From then on the socket and its errors are the handler's.
   * @returns 64 hex digits
   * @throws {BangerError} `limit_exceeded`, and the signal's reason when it is aborted already
   */
  issue(handler: (socket: S) => void, options: IssueOptions = {}): string {
    options.signal?.throwIfAborted();
    if (this.#open.size >= this.#maxOpen) {
      throw new BangerError(
        'limit_exceeded',
        `${this.#maxOpen} streams are waiting for their clients already`,
        {
          hint: 'try again in a few seconds',
        },
      );
    }
    const ticket = randomBytes(TICKET_HEX_DIGITS / 2).toString('hex');
    const key = keyOf(ticket);
    const withdraw = () => end(false);
    const timer = setTimeout(withdraw, options.ttlMs ?? DEFAULT_TTL_MS);
    timer.unref();
    options.signal?.addEventListener('abort', withdraw, { once: true });
    const end = (used: boolean) => {
      if (!this.#open.delete(key)) return;
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', withdraw);
      if (!used) options.onUnused?.();
    };
    this.#open.set(key, { handler, end });
    return ticket;
  }

  /** The handler of a valid ticket, which is used up by this; undefined when it is unknown, used or too old. */
  redeem(ticket: string): ((socket: S) => void) | undefined {
    const open = this.#open.get(keyOf(ticket));
    open?.end(true);
    return open?.handler;
  }

  /** Withdraws every ticket. */
  close(): void {
    for (const open of this.#open.values()) open.end(false);
  }
}
