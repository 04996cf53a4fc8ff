/** Takes one stream of bytes from a unix socket into a file, within a limit, and digests it on the way. */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { addAbortSignal } from 'node:stream';
import { BangerError } from '../../core/errors.ts';
import { fileError } from '../../host/files.ts';

/** A state without memory has 256 KiB; what a QEMU that a guest took over sends may have no end. */
export const MAX_STATE_BYTES = 64 * 1024 * 1024;

export interface Received {
  readonly sizeBytes: number;
  /** Hex. */
  readonly sha256: string;
}

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
  static async listen(path: string, maxBytes = MAX_STATE_BYTES): Promise<StateReceiver> {
    await rm(path, { force: true });
    const server = createServer({ pauseOnConnect: true });
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
   * Takes one connection to its end.
   * @throws {BangerError} `limit_exceeded`, `no_space`, `io_error`; the signal's reason
   */
  async receive(file: FileHandle, signal: AbortSignal): Promise<Received> {
    const [socket] = (await once(this.#server, 'connection', { signal })) as [Socket];
    addAbortSignal(signal, socket);
    const hash = createHash('sha256');
    let sizeBytes = 0;
    try {
      // Leaving this loop, however it goes, destroys the socket.
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        sizeBytes += chunk.length;
        if (sizeBytes > this.#maxBytes) {
          throw new BangerError('limit_exceeded', `the state is larger than ${this.#maxBytes} bytes`);
        }
        hash.update(chunk);
        await file.writeFile(chunk);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw fileError('cannot take over the state', error);
    }
    return { sizeBytes, sha256: hash.digest('hex') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
