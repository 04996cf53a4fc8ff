/** stdout and stderr as commands write to them, whatever their other end does. */

import type { TextOutput } from '../cli-context.ts';

/** `process.stdout`, which is a terminal's stream only when it is on one. */
type Stream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

const DEFAULT_COLUMNS = 80;

export class StreamOutput implements TextOutput {
  readonly #open: () => Stream;
  #opened: Stream | undefined;
  #failure: NodeJS.ErrnoException | undefined;

  /** @param open called at the first use: making a stream of a descriptor takes time at a start */
  constructor(open: () => Stream) {
    this.#open = open;
  }

  get isTTY(): boolean {
    return this.#stream.isTTY === true;
  }

  get columns(): number {
    return this.#stream.columns || DEFAULT_COLUMNS;
  }

  get #stream(): Stream {
    if (this.#opened === undefined) {
      this.#opened = this.#open();
      this.#opened.on('error', (error: NodeJS.ErrnoException) => {
        this.#failure ??= error;
      });
    }
    return this.#opened;
  }

  /** After a failure writes are dropped: nobody reads them. */
  write(text: string): void {
    if (this.#failure === undefined && text !== '') this.#stream.write(text);
  }

  /** Why not everything written has arrived. A reader that went away (`| head`) is no reason. */
  async flushed(): Promise<NodeJS.ErrnoException | undefined> {
    if (this.#opened !== undefined && this.#failure === undefined) {
      await new Promise<void>((resolve) => this.#stream.write('', () => resolve()));
    }
    return this.#failure?.code === 'EPIPE' ? undefined : this.#failure;
  }

  /** @throws what the system says, EPIPE too */
  writeBytes(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
}
