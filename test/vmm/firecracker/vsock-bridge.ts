/**
 * The host's end of a vsock device as Firecracker offers it, and QEMU's port to the agent behind it: `CONNECT <port>\n`,
 * then `OK <number>\n`, then the bytes.
 */

import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

const MAX_LINE_BYTES = 32;

export interface BridgeOptions {
  /** Where the guest listens. */
  readonly port: number;
  readonly connect: () => Promise<Duplex>;
  /** So many connections find nobody listening: the guest is not up yet. */
  readonly refusals: number;
}

export class VsockBridge {
  readonly #options: BridgeOptions;
  readonly #open = new Map<Socket, Duplex>();
  #refusals: number;
  #nextNumber = 1 << 30;

  private constructor(server: Server, options: BridgeOptions) {
    this.#options = options;
    this.#refusals = options.refusals;
    server.on('connection', (socket) => {
      socket.on('error', () => {});
      void this.#serve(socket).catch(() => socket.destroy());
    });
  }

  /** @throws EADDRINUSE: it takes the place of nothing */
  static async listen(path: string, options: BridgeOptions): Promise<VsockBridge> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(path);
    await once(server, 'listening');
    return new VsockBridge(server, options);
  }

  /** The guest's end of every connection is gone, and nobody tells the host's until it sends something. */
  reset(): void {
    for (const [socket, channel] of this.#open) {
      socket.unpipe(channel);
      channel.unpipe(socket);
      channel.removeAllListeners('close');
      channel.destroy();
      socket.on('data', () => socket.destroy());
      socket.resume();
    }
    this.#open.clear();
  }

  async #serve(socket: Socket): Promise<void> {
    const port = /^CONNECT (\d+)$/.exec(await readLine(socket))?.[1];
    const isNobody = Number(port) !== this.#options.port || this.#refusals > 0;
    if (isNobody) {
      this.#refusals -= 1;
      socket.destroy();
      return;
    }
    const channel = await this.#options.connect();
    channel.on('error', () => {});
    if (socket.destroyed) {
      channel.destroy();
      return;
    }
    this.#open.set(socket, channel);
    socket.once('close', () => {
      this.#open.delete(socket);
      channel.destroy();
    });
    channel.once('close', () => socket.destroy());
    socket.write(`OK ${this.#nextNumber++}\n`);
    socket.pipe(channel);
    channel.pipe(socket);
  }
}

async function readLine(socket: Socket): Promise<string> {
  let line = '';
  while (line.length < MAX_LINE_BYTES) {
    const byte = (socket.read(1) as Buffer | null)?.toString('latin1');
    if (byte === '\n') return line;
    if (byte !== undefined) line += byte;
    else if (socket.destroyed || socket.readableEnded) break;
    else await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]);
  }
  return '';
}
