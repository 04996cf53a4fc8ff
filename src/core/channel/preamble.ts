/**
 * The 32 bytes both sides resynchronise on before frames begin (docs/agent-protocol.md, "Opening"):
 *
 *   offset 0   magic, 8 bytes
 *          8   u16  the sender's protocol version, little endian
 *          10  6 zero bytes
 *          16  nonce, 16 bytes: chosen by the host, echoed by the guest
 */

import { FrameError, PROTOCOL_VERSION } from './frame.ts';

export const PREAMBLE_BYTES = 32;
export const NONCE_BYTES = 16;
/** How many bytes of an earlier session a side discards before it gives up. */
export const MAX_DISCARDED_BYTES = 4 * 1024 * 1024;

const MAGIC = Uint8Array.of(0xb4, 0x42, 0x4e, 0x47, 0x52, 0x0d, 0x0a, 0x1a);
const VERSION_OFFSET = 8;
const ZEROS_OFFSET = 10;
const NONCE_OFFSET = 16;

export interface PreambleFound {
  /** The sender's protocol version; judging it is the caller's. */
  readonly version: number;
  /** 16 bytes, a copy. */
  readonly nonce: Uint8Array;
  /** What followed the preamble in the pushed bytes: the first bytes of frames. A copy. */
  readonly rest: Uint8Array;
}

/** A preamble as bytes. `nonce` is 16 random bytes (host) or the host's, echoed (guest). */
export function encodePreamble(nonce: Uint8Array, version: number = PROTOCOL_VERSION): Uint8Array {
  if (nonce.length !== NONCE_BYTES)
    throw new RangeError(`a nonce has ${NONCE_BYTES} bytes, not ${nonce.length}`);
  const bytes = new Uint8Array(PREAMBLE_BYTES);
  bytes.set(MAGIC, 0);
  new DataView(bytes.buffer).setUint16(VERSION_OFFSET, version, true);
  bytes.set(nonce, NONCE_OFFSET);
  return bytes;
}

/**
 * Finds the first preamble in a byte stream that may begin with leftovers of an earlier session.
 * With a nonce it accepts only a preamble that carries it: an answer to an earlier host is one of the leftovers.
 */
export class PreambleScanner {
  readonly #nonce: Uint8Array | undefined;
  readonly #maxDiscardedBytes: number;
  /** Less than one preamble: the end of what was pushed, in which a preamble may have begun. */
  #pending: Uint8Array = new Uint8Array(0);
  #discardedBytes = 0;
  #found = false;

  constructor(nonce?: Uint8Array, maxDiscardedBytes: number = MAX_DISCARDED_BYTES) {
    this.#nonce = nonce?.slice();
    this.#maxDiscardedBytes = maxDiscardedBytes;
  }

  /**
   * Takes the next bytes; undefined until a whole preamble has come. Not to be called after that.
   * @throws {FrameError} more than the allowed number of bytes went by without one
   */
  push(chunk: Uint8Array): PreambleFound | undefined {
    if (this.#found) throw new Error('the preamble was found already');
    const bytes = new Uint8Array(this.#pending.length + chunk.length);
    bytes.set(this.#pending, 0);
    bytes.set(chunk, this.#pending.length);

    const last = bytes.length - PREAMBLE_BYTES;
    for (
      let start = bytes.indexOf(0xb4);
      start !== -1 && start <= last;
      start = bytes.indexOf(0xb4, start + 1)
    ) {
      if (!this.#matches(bytes, start)) continue;
      this.#discard(start);
      this.#found = true;
      this.#pending = new Uint8Array(0);
      return {
        version: new DataView(bytes.buffer).getUint16(start + VERSION_OFFSET, true),
        nonce: bytes.slice(start + NONCE_OFFSET, start + PREAMBLE_BYTES),
        rest: bytes.slice(start + PREAMBLE_BYTES),
      };
    }
    const kept = Math.min(bytes.length, PREAMBLE_BYTES - 1);
    this.#pending = bytes.slice(bytes.length - kept);
    this.#discard(bytes.length - kept);
    return undefined;
  }

  #matches(bytes: Uint8Array, start: number): boolean {
    for (let at = 0; at < MAGIC.length; at++) if (bytes[start + at] !== MAGIC[at]) return false;
    for (let at = ZEROS_OFFSET; at < NONCE_OFFSET; at++) if (bytes[start + at] !== 0) return false;
    const nonce = this.#nonce;
    return nonce === undefined || nonce.every((byte, at) => bytes[start + NONCE_OFFSET + at] === byte);
  }

  #discard(count: number): void {
    this.#discardedBytes += count;
    if (this.#discardedBytes <= this.#maxDiscardedBytes) return;
    throw new FrameError(`no preamble within ${this.#maxDiscardedBytes} bytes`);
  }
}
