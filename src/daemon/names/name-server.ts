/** Answers for `NAME.vm` over UDP and TCP, on a loopback address only. Never fails or delays the daemon: it tries again. */

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import type { NameServerStatus } from '../../api/results/daemon.ts';
import { errorText } from '../../core/errors.ts';
import type { Log } from '../../host/log.ts';
import { answerTo, type Zone } from './answer.ts';

export interface NameServerOptions {
  readonly host: string;
  readonly port: number;
  readonly zone: Zone;
  readonly log: Log;
  /** Between two tries to have the port. Default 30 s. */
  readonly retryMs?: number;
}

const RETRY_MS = 30_000;
const MAX_CONNECTIONS = 64;
const IDLE_MS = 10_000;
/** Of one message over TCP; `answerTo` refuses what is longer than a question. */
const MAX_MESSAGE_BYTES = 4096;

interface Sockets {
  readonly udp: UdpSocket;
  readonly tcp: Server;
}

export class NameServer {
  readonly #options: NameServerOptions;
  readonly #connections = new Set<Socket>();
  #sockets: Sockets | undefined;
  #retry: NodeJS.Timeout | undefined;
  #problem: string | undefined;
  #isClosed = false;

  constructor(options: NameServerOptions) {
    this.#options = options;
  }

  get status(): NameServerStatus {
    const address = endText(this.#options);
    if (this.#sockets !== undefined) return { address, state: 'listening', problem: null };
    if (this.#problem === undefined) return { address, state: 'starting', problem: null };
    return { address, state: 'failed', problem: this.#problem };
  }

  /** Resolves after the first try. Never rejects: the port may be another program's, for as long as it likes. */
  async start(): Promise<void> {
    const { log, retryMs = RETRY_MS } = this.#options;
    try {
      const sockets = await this.#bind();
      if (this.#isClosed) return closeAll(sockets);
      this.#sockets = sockets;
      log.info({ address: endText(this.#options) }, 'answering for names of VMs');
    } catch (error) {
      if (this.#isClosed) return;
      const problem = problemOf(error as NodeJS.ErrnoException);
      if (problem !== this.#problem)
        log.warn({ address: endText(this.#options), problem }, 'no names of VMs');
      this.#problem = problem;
      this.#retry = setTimeout(() => void this.start(), retryMs).unref();
    }
  }

  /** Idempotent. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    if (this.#sockets !== undefined) closeAll(this.#sockets);
    this.#sockets = undefined;
    for (const socket of this.#connections) socket.destroy();
  }

  /** Both or none. */
  async #bind(): Promise<Sockets> {
    const { host, port } = this.#options;
    const tcp = createServer((socket) => this.#converse(socket));
    tcp.maxConnections = MAX_CONNECTIONS;
    const udp = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    udp.on('message', (query, { address, port: from }) => {
      const answer = this.#answer(query);
      // Whoever does not get it asks again.
      if (answer !== undefined) udp.send(answer, from, address, () => undefined);
    });
    try {
      await listening(tcp, () => tcp.listen({ host, port }));
      await listening(udp, () => udp.bind({ address: host, port, exclusive: true }));
    } catch (error) {
      closeAll({ udp, tcp });
      throw error;
    }
    // A client that could not be accepted or answered: its loss.
    for (const one of [udp, tcp]) one.on('error', () => undefined);
    return { udp, tcp };
  }

  /** RFC 1035, 4.2.2: each message has its length in front. */
  #converse(socket: Socket): void {
    this.#connections.add(socket);
    let pending = Buffer.alloc(0);
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on('error', () => undefined);
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 2) {
        const length = pending.readUInt16BE(0);
        if (length > MAX_MESSAGE_BYTES) return socket.destroy();
        if (pending.length < 2 + length) return undefined;
        const answer = this.#answer(pending.subarray(2, 2 + length));
        pending = pending.subarray(2 + length);
        // One that asks and does not read what it is told is not waited for.
        if (answer === undefined || !socket.write(withLength(answer))) return socket.destroy();
      }
      return undefined;
    });
  }

  #answer(query: Uint8Array): Uint8Array | undefined {
    try {
      return answerTo(query, this.#options.zone);
    } catch (error) {
      this.#options.log.error({ err: error }, 'a question about names could not be answered');
      return undefined;
    }
  }
}

async function listening(one: UdpSocket | Server, begin: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  one.once('error', reject).once('listening', resolve);
  begin();
  await promise;
}

function closeAll({ udp, tcp }: Sockets): void {
  udp.close();
  tcp.close();
}

function withLength(answer: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(answer.length);
  return Buffer.concat([length, answer]);
}

function endText({ host, port }: Pick<NameServerOptions, 'host' | 'port'>): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function problemOf(error: NodeJS.ErrnoException): string {
  if (error.code === 'EADDRINUSE') return 'another program has that port, perhaps another banger';
  if (error.code === 'EACCES') return "ports this low are the administrator's";
  return errorText(error);
}
