/** The listeners of one VM on its own address of the host: they come and go with those of the programs in it. */

import type { Socket } from 'node:net';
import { BangerError, errorText } from '../../../core/errors.ts';
import { isIpv4, isIpv6 } from '../../../core/ip-address.ts';
import type { ForwardedPort } from '../../../core/model/vm.ts';
import { isReachedByLoopback, MAX_FORWARDED_PORTS } from '../../../core/published-port.ts';
import type { GuestPort } from '../../../guest/answers.ts';
import type { ConnectRequest } from '../../../guest/payloads.ts';
import { type HostEnd, listenOn, type PortListener } from './port-listener.ts';

export interface AutoPortsDeps {
  /** Nothing else is ever bound. */
  readonly address: string;
  readonly serve: (socket: Socket, target: ConnectRequest) => void;
  /** Who else has that port of the address. */
  readonly takenBy: (port: number) => string;
  /** A published port of the VM, on all addresses, leads to it already. */
  readonly isPublished: (port: number) => boolean;
}

interface Forward {
  target: ConnectRequest;
  /** Undefined: it could not be had, or is not needed. */
  listener: PortListener | undefined;
  problem: string | undefined;
}

export class AutoPorts {
  readonly #deps: AutoPortsDeps;
  readonly #forwards = new Map<number, Forward>();
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(deps: AutoPortsDeps) {
    this.#deps = deps;
  }

  get list(): readonly ForwardedPort[] {
    return [...this.#forwards]
      .toSorted(([one], [other]) => one - other)
      .map(([port, { target, problem }]) => ({
        port,
        ...(target.address === undefined ? {} : { address: target.address }),
        ...(problem === undefined ? {} : { problem }),
      }));
  }

  /** Opens what is new, closes what is gone, and tries again what could not be had. Connections go on. Never rejects. */
  async follow(wanted: readonly ConnectRequest[]): Promise<void> {
    const turn = this.#turn.then(() => this.#follow(wanted));
    this.#turn = turn;
    await turn;
  }

  /** What would keep that end from being listened on. It is tried again at the next `follow`. */
  giveUp({ hostAddress, hostPort }: HostEnd): void {
    if (hostAddress !== '0.0.0.0' && hostAddress !== this.#deps.address) return;
    const forward = this.#forwards.get(hostPort);
    forward?.listener?.close();
    if (forward !== undefined) forward.listener = undefined;
  }

  /** Idempotent. */
  close(): void {
    this.#isClosed = true;
    for (const { listener } of this.#forwards.values()) listener?.close();
    this.#forwards.clear();
  }

  async #follow(wanted: readonly ConnectRequest[]): Promise<void> {
    if (this.#isClosed) return;
    const chosen = new Map(wanted.map((target) => [target.port, target]));
    for (const [port, { listener }] of this.#forwards) {
      if (chosen.has(port)) continue;
      listener?.close();
      this.#forwards.delete(port);
    }
    await Promise.all(this.#withinLimit(chosen).map((target) => this.#forward(target)));
  }

  /** What is open already goes first: a guest that listens everywhere loses nothing that it used before. */
  #withinLimit(chosen: ReadonlyMap<number, ConnectRequest>): readonly ConnectRequest[] {
    const all = [...chosen.values()].toSorted((one, other) => one.port - other.port);
    const known = all.filter(({ port }) => this.#forwards.has(port));
    const fresh = all.filter(({ port }) => !this.#forwards.has(port));
    return [...known, ...fresh].slice(0, MAX_FORWARDED_PORTS);
  }

  async #forward(target: ConnectRequest): Promise<void> {
    const { address, takenBy, isPublished, serve } = this.#deps;
    const { port } = target;
    const forward = this.#forwards.get(port) ?? { target, listener: undefined, problem: undefined };
    forward.target = target;
    this.#forwards.set(port, forward);
    forward.problem = undefined;
    if (forward.listener !== undefined || isPublished(port)) return;
    const end = { hostAddress: address, hostPort: port };
    try {
      const listener = await listenOn(
        end,
        (socket) => serve(socket, forward.target),
        () => takenBy(port),
      );
      if (this.#forwards.get(port) === forward) forward.listener = listener;
      else listener.close();
    } catch (error) {
      forward.problem = problemOf(error, takenBy(port));
    }
  }
}

/** TCP listeners of a guest as connections from inside reach them, one for each number: loopback where that will do. */
export function forwardable(listening: readonly GuestPort[]): readonly ConnectRequest[] {
  const targets = new Map<number, ConnectRequest>();
  for (const { protocol, address, port } of listening) {
    if (protocol !== 'tcp' || port === 0) continue;
    if (isReachedByLoopback(address)) targets.set(port, { port });
    else if (!targets.has(port) && isConnectable(address)) targets.set(port, { port, address });
  }
  return [...targets.values()];
}

/** A link-local address means nothing without its interface. */
function isConnectable(address: string): boolean {
  return isIpv4(address) || (isIpv6(address) && !/^fe[89ab]/i.test(address));
}

function problemOf(error: unknown, holder: string): string {
  const code = error instanceof BangerError ? error.code : undefined;
  if (code === 'in_use') return `${holder} has that port of this host`;
  if (code === 'permission')
    return "ports this low are the administrator's: net.ipv4.ip_unprivileged_port_start";
  return errorText(error);
}
