/** Takes one stream of bytes from a unix socket, within a limit. */

import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { addAbortSignal } from 'node:stream';
import { BangerError } from '../../core/errors.ts';
import { fileError } from '../../host/files.ts';

/** Node stops and starts reading around this: with its 64 KiB that happens for every read, and takes half as long again. */
const RECEIVE_BYTES = 1024 * 1024;

export class StateReceiver implements AsyncDisposable {
  readonly #server: Server;
  readonly #maxBytes: number;
  /** Also a connection that nobody took: the server is not closed before it. */
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, maxBytes: number) {
    this.#server = server;
    this.#maxBytes = maxBytes;
    server.on('connection', (socket) => this.#sockets.add(socket.on('error', () => {})));
  }

  /** Listens at `path`, in the place of what is there. Who may connect is decided by the directory it lies in. */
  static async listen(path: string, maxBytes: number): Promise<StateReceiver> {
    await rm(path, { force: true });
    const server = createServer({ pauseOnConnect: true, highWaterMark: RECEIVE_BYTES });
    server.maxConnections = 1;
    server.listen(path);
    try {
      await once(server, 'listening');
    } catch (error) {
      throw fileError(`cannot listen at ${path}`, error);
    }
    return new StateReceiver(server, maxBytes);
  }

  /**
   * Takes one connection to its end. `take` gets its bytes, and the sender waits for it.
   * @throws {BangerError} `limit_exceeded`; the signal's reason; what `take` throws
   */
  async receive(take: (chunk: Buffer) => Promise<void>, signal: AbortSignal): Promise<void> {
    const [socket] = (await once(this.#server, 'connection', { signal })) as [Socket];
    addAbortSignal(signal, socket);
    let bytes = 0;
    try {
      // Leaving this loop, however it goes, destroys the socket.
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > this.#maxBytes) {
          throw new BangerError('limit_exceeded', `QEMU sent more than ${this.#maxBytes} bytes`);
        }
        await take(chunk);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
