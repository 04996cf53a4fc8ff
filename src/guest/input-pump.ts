/** Sends bytes to a program's standard input as fast as credit and connection allow, and no faster. */

import { MAX_PAYLOAD_BYTES } from '../core/channel/frame.ts';
import type { GuestStream } from './stream.ts';

export type Input = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export class InputPump {
  readonly #stream: GuestStream;
  #stopped = false;
  #wake: () => void = () => {};

  constructor(stream: GuestStream) {
    this.#stream = stream;
  }

  /** Sends all of the input, then its end. Stops quietly when the stream ends first; rejects when the source does. */
  async send(input: Input): Promise<void> {
    if (input instanceof Uint8Array) await this.#sendChunk(input);
    else {
      for await (const chunk of input) {
        await this.#sendChunk(chunk);
        if (this.#stopped) return;
      }
    }
    if (!this.#stopped) this.#stream.sendEof();
  }

  /** To be called when the guest has granted credit. */
  credit(): void {
    this.#wake();
  }

  /** To be called when the stream has ended. */
  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  async #sendChunk(chunk: Uint8Array): Promise<void> {
    const stream = this.#stream;
    let offset = 0;
    while (offset < chunk.length && !this.#stopped) {
      if (stream.congested) await this.#waitFor((wake) => stream.whenWritable(wake));
      else if (stream.sendCredit === 0) await this.#waitFor(() => {});
      else {
        const end = offset + Math.min(MAX_PAYLOAD_BYTES, stream.sendCredit, chunk.length - offset);
        stream.sendData(chunk.subarray(offset, end));
        offset = end;
      }
    }
  }

  #waitFor(arrange: (wake: () => void) => void): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      arrange(resolve);
    });
  }
}
