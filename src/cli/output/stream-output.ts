/** stdout and stderr as commands write to them, whatever their other end does. */

import type { WriteStream } from 'node:tty';
import type { TextOutput } from '../cli-context.ts';

const DEFAULT_COLUMNS = 80;

export class StreamOutput implements TextOutput {
  readonly #stream: WriteStream;
  #failure: NodeJS.ErrnoException | undefined;

  constructor(stream: WriteStream) {
    this.#stream = stream;
    stream.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  get isTTY(): boolean {
    return this.#stream.isTTY === true;
  }

  get columns(): number {
    return this.#stream.columns ?? DEFAULT_COLUMNS;
  }

  /** After a failure writes are dropped: nobody reads them. */
  write(text: string): void {
    if (this.#failure === undefined && text !== '') this.#stream.write(text);
  }

  /** Why not everything written has arrived. A reader that went away (`| head`) is no reason. */
  async flushed(): Promise<NodeJS.ErrnoException | undefined> {
    if (this.#failure === undefined) {
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
