/** The published ports of one VM: its listeners, the connections that came through them, and when bytes last passed. */

import type { Socket } from 'node:net';
import { BangerError, errorText } from '../../../core/errors.ts';
import type { BoundPort, PublishedPort } from '../../../core/model/vm.ts';
import type { ConnectRequest } from '../../../guest/payloads.ts';
import { TcpPipe } from '../../../guest/tcp-pipe.ts';
import type { Log } from '../../../host/log.ts';
import type { Awake } from '../vms/awake.ts';
import type { LiveVm } from '../vms/live-vm.ts';
import { listenOn, type PortListener } from './port-listener.ts';

/** Over all ports of a VM. What comes beyond is reset. The agent's other streams have the rest of MAX_STREAMS. */
export const MAX_CONNECTIONS = 1024;
/** Clients' bytes ask for the VM to be awake at most this often: they may come a hundred thousand times a second. */
const NUDGE_MS = 100;

export interface PortTraffic {
  readonly openConnections: number;
  /** Monotonic (`performance.now`), of the last new connection or byte either way; undefined: there was none. */
  readonly lastTrafficAtMs: number | undefined;
}

export interface VmPortsDeps {
  readonly vmId: string;
  readonly awake: Awake;
  readonly log: Log;
}

export class VmPorts {
  readonly #deps: VmPortsDeps;
  readonly #listeners: (PortListener & PublishedPort)[] = [];
  readonly #pipes = new Set<TcpPipe>();
  readonly #closing = new AbortController();
  #lastTrafficAtMs: number | undefined;
  #waking: Promise<LiveVm> | undefined;
  #lastNudgeAtMs = Number.NEGATIVE_INFINITY;
  #nudge: NodeJS.Timeout | undefined;

  constructor(deps: VmPortsDeps) {
    this.#deps = deps;
  }

  get traffic(): PortTraffic {
    return { openConnections: this.#pipes.size, lastTrafficAtMs: this.#lastTrafficAtMs };
  }

  /** What listens where `end` would: there, or on all addresses of that family. */
  overlapping({ hostAddress, hostPort }: Omit<PublishedPort, 'guestPort'>): PublishedPort | undefined {
    const isV6 = hostAddress.includes(':');
    return this.#listeners.find((one) => {
      if (one.hostPort !== hostPort || one.hostAddress.includes(':') !== isV6) return false;
      return one.hostAddress === hostAddress || isAny(one.hostAddress) || isAny(hostAddress);
    });
  }

  /**
   * Listens for one more port. `remembered` is tried first where any number will do.
   * @throws {BangerError} what `listenOn` throws; the ports before stay open
   */
  async listen(port: PublishedPort, remembered: number, takenBy: () => string): Promise<BoundPort> {
    const { hostAddress, guestPort } = port;
    const open = (hostPort: number): Promise<PortListener> =>
      listenOn({ hostAddress, hostPort }, (socket) => void this.serve(socket, { port: guestPort }), takenBy);
    const listener = await this.#preferring(port.hostPort === 0 ? remembered : 0, port.hostPort, open);
    if (this.#closing.signal.aborted) {
      listener.close();
      throw new BangerError('cancelled', 'the ports were closed');
    }
    const bound = { hostAddress, hostPort: listener.hostPort, guestPort };
    this.#listeners.push({ ...bound, close: () => listener.close() });
    return bound;
  }

  /** Listeners and connections; clients see a reset. Idempotent. */
  close(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
    this.#closing.abort();
    clearTimeout(this.#nudge);
    for (const pipe of this.#pipes) pipe.abort();
  }

  async #preferring(
    preferred: number,
    otherwise: number,
    open: (hostPort: number) => Promise<PortListener>,
  ): Promise<PortListener> {
    if (preferred === 0) return await open(otherwise);
    try {
      return await open(preferred);
    } catch (error) {
      if (error instanceof BangerError && error.code === 'in_use') return await open(otherwise);
      throw error;
    }
  }

  /** The client waits, connected, for as long as the VM needs. */
  async serve(socket: Socket, target: ConnectRequest): Promise<void> {
    const pipe = new TcpPipe(socket, {
      moved: () => this.#moved(),
      received: () => this.#onReceived(),
    });
    if (this.#pipes.size >= MAX_CONNECTIONS || this.#closing.signal.aborted) {
      pipe.abort();
      return;
    }
    this.#pipes.add(pipe);
    void pipe.closed.then(() => this.#pipes.delete(pipe));
    this.#moved();
    try {
      const live = await this.#awake();
      const agent = await live.agent(this.#closing.signal);
      if (!pipe.isClosed) pipe.attach(agent.connectTo(target));
    } catch (error) {
      this.#deps.log.debug(
        { vm: this.#deps.vmId, guestPort: target.port, reason: errorText(error) },
        'a connection was refused',
      );
      pipe.abort();
    }
  }

  #moved(): void {
    this.#lastTrafficAtMs = performance.now();
  }

  /** One question at a time, however many connections ask it. */
  #awake(): Promise<LiveVm> {
    this.#waking ??= this.#deps.awake(this.#deps.vmId, this.#closing.signal).finally(() => {
      this.#waking = undefined;
    });
    return this.#waking;
  }

  /** The VM may have been paused since the connection was made. */
  #onReceived(): void {
    this.#moved();
    if (this.#nudge !== undefined || this.#closing.signal.aborted) return;
    const dueInMs = this.#lastNudgeAtMs + NUDGE_MS - performance.now();
    this.#nudge = setTimeout(
      () => {
        this.#nudge = undefined;
        this.#lastNudgeAtMs = performance.now();
        // Whoever waits for an answer hears of it by the connection's end.
        this.#awake().catch(() => undefined);
      },
      Math.max(1, dueInMs),
    );
  }
}

function isAny(address: string): boolean {
  return address === '0.0.0.0' || /^[0:]+$/.test(address);
}
