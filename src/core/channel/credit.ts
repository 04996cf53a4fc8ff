/**
 * The accounts of flow control: one `SendCredit` per stream and channel at the sender, one `ReceiveCredit` at the receiver
 * (docs/agent-protocol.md, "Flow control" and "Client streams").
 */

import { FrameError, INITIAL_WINDOW_BYTES } from './frame.ts';

const MAX_CREDIT_BYTES = 2 ** 31;

/** What this side may still send. */
export class SendCredit {
  #available = INITIAL_WINDOW_BYTES;

  get available(): number {
    return this.#available;
  }

  /** Uses credit up. @throws {FrameError} more than there is */
  use(bytes: number): void {
    if (bytes > this.#available) {
      throw new FrameError(`${bytes} bytes sent with credit for ${this.#available}`);
    }
    this.#available -= bytes;
  }

  /** Takes a WINDOW in. @throws {FrameError} the total would pass 2^31 */
  add(bytes: number): void {
    if (this.#available + bytes > MAX_CREDIT_BYTES) throw new FrameError('credit passes 2^31');
    this.#available += bytes;
  }
}

/** What the other side may still send, and what this side owes it for bytes already taken. */
export class ReceiveCredit {
  readonly #renewAtBytes: number;
  #outstanding = INITIAL_WINDOW_BYTES;
  #taken = 0;

  /** Credit is renewed once this many bytes were taken: by default half the window. */
  constructor(renewAtBytes = INITIAL_WINDOW_BYTES / 2) {
    this.#renewAtBytes = renewAtBytes;
  }

  /** What the sender may still send. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Accounts for a DATA frame that came. @throws {FrameError} the sender had less credit */
  use(bytes: number): void {
    if (bytes > this.#outstanding) {
      throw new FrameError(`${bytes} bytes received with credit for ${this.#outstanding}`);
    }
    this.#outstanding -= bytes;
  }

  /** Accounts for a grant. @throws {FrameError} more than was used: the window would grow */
  grant(bytes: number): void {
    if (this.#outstanding + bytes > INITIAL_WINDOW_BYTES) {
      throw new FrameError(`a grant of ${bytes} bytes makes the window larger than ${INITIAL_WINDOW_BYTES}`);
    }
    this.#outstanding += bytes;
  }

  /** Counts bytes the consumer has taken; returns the grant to send now, mostly 0. */
  take(bytes: number): number {
    this.#taken += bytes;
    if (this.#taken < this.#renewAtBytes) return 0;
    const grant = this.#taken;
    this.#taken = 0;
    return grant;
  }
}
