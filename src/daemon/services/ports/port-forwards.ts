/**
 * TCP ports of the host that lead into VMs, carried by the daemon over the agent's channel: those that were asked for
 * (published), and on each VM's own address whatever its programs listen on. They need no network of the guest's, and a client
 * of a VM that stands still waits instead of failing.
 */

import { errorText } from '../../../core/errors.ts';
import type { BoundPort, ForwardedPort, PublishedPort, VmRecord } from '../../../core/model/vm.ts';
import type { GuestPort } from '../../../guest/answers.ts';
import type { Log } from '../../../host/log.ts';
import { AutoPorts, forwardable } from './auto-ports.ts';
import type { Awake } from '../vms/awake.ts';
import { type PortTraffic, VmPorts } from './vm-ports.ts';

export interface PortForwardsDeps {
  readonly awake: Awake;
  readonly log: Log;
  /** A VM's own address on this host, where its programs' ports appear. Absent, or null: none appear by themselves. */
  readonly hostAddressOf?: (vm: VmRecord) => string | null;
}

interface Entry {
  readonly name: string;
  readonly ports: VmPorts;
  readonly auto: AutoPorts | undefined;
}

const NO_TRAFFIC: PortTraffic = { openConnections: 0, lastTrafficAtMs: undefined };

export class PortForwards {
  readonly #deps: PortForwardsDeps;
  readonly #entries = new Map<string, Entry>();

  constructor(deps: PortForwardsDeps) {
    this.#deps = deps;
  }

  /**
   * Opens a VM's ports, all or none, for a start: clients that come before it runs wait. A port that was chosen for a VM before
   * is chosen again if it is free.
   * @returns what is to be kept in the row's `runtime.published`
   * @throws {BangerError} `in_use` (naming the VM, or another program), `permission`, `bad_request`, `io_error`
   */
  async open(vm: VmRecord): Promise<readonly BoundPort[]> {
    this.close(vm.id);
    const ports = this.#register(vm);
    try {
      const bound: BoundPort[] = [];
      for (const [index, port] of vm.spec.publish.entries())
        bound.push(await this.#listen(ports, vm, port, index));
      return bound;
    } catch (error) {
      this.close(vm.id);
      throw error;
    }
  }

  /** Opens the ports of a VM that runs already: what cannot be had is left out and says why. Never rejects. */
  async reopen(vm: VmRecord): Promise<readonly BoundPort[]> {
    this.close(vm.id);
    const ports = this.#register(vm);
    const bound: BoundPort[] = [];
    for (const [index, port] of vm.spec.publish.entries()) {
      try {
        bound.push(await this.#listen(ports, vm, port, index));
      } catch (error) {
        this.#deps.log.warn({ vm: vm.name, err: error }, 'a port could not be published again');
        bound.push({ ...port, problem: errorText(error) });
      }
    }
    // What was known of the others; whoever asks the guest next corrects it.
    await this.#entries.get(vm.id)?.auto?.follow(vm.runtime.forwarded ?? []);
    return bound;
  }

  /**
   * From now on what is listened on in a VM appears on its own address, and nothing else. Never rejects.
   * @returns what is to be kept in the row's `runtime.forwarded`; undefined: the VM has ended, or nothing is forwarded here
   */
  async follow(vmId: string, listening: readonly GuestPort[]): Promise<readonly ForwardedPort[] | undefined> {
    const auto = this.#entries.get(vmId)?.auto;
    await auto?.follow(forwardable(listening));
    return this.#entries.get(vmId)?.auto === auto ? auto?.list : undefined;
  }

  /** Listeners and connections of a VM. Idempotent. */
  close(vmId: string): void {
    const entry = this.#entries.get(vmId);
    this.#entries.delete(vmId);
    entry?.auto?.close();
    entry?.ports.close();
  }

  closeAll(): void {
    for (const vmId of [...this.#entries.keys()]) this.close(vmId);
  }

  /** For whoever decides that a VM is not used: open connections alone say little, bytes do. */
  traffic(vmId: string): PortTraffic {
    return this.#entries.get(vmId)?.ports.traffic ?? NO_TRAFFIC;
  }

  #register(vm: VmRecord): VmPorts {
    const ports = new VmPorts({ vmId: vm.id, ...this.#deps });
    this.#entries.set(vm.id, { name: vm.name, ports, auto: this.#autoOf(vm, ports) });
    return ports;
  }

  #autoOf(vm: VmRecord, ports: VmPorts): AutoPorts | undefined {
    const address = this.#deps.hostAddressOf?.(vm) ?? null;
    if (address === null) return undefined;
    const endOf = (hostPort: number) => ({ hostAddress: address, hostPort });
    return new AutoPorts({
      address,
      serve: (socket, target) => void ports.serve(socket, target),
      takenBy: (port) => this.#holder(endOf(port)),
      isPublished: (port) => ports.overlapping(endOf(port))?.guestPort === port,
    });
  }

  async #listen(ports: VmPorts, vm: VmRecord, port: PublishedPort, index: number): Promise<BoundPort> {
    const before = vm.runtime.published?.[index];
    this.#makeRoomFor(port);
    const isSame = before?.hostAddress === port.hostAddress && before.guestPort === port.guestPort;
    return await ports.listen(port, isSame ? before.hostPort : 0, () => this.#holder(port));
  }

  /** What somebody asked for goes before what appears by itself, which would be in the way of an address that is all of them. */
  #makeRoomFor(end: PublishedPort): void {
    for (const { auto } of this.#entries.values()) auto?.giveUp(end);
  }

  #holder(port: Omit<PublishedPort, 'guestPort'>): string {
    for (const { name, ports } of this.#entries.values()) {
      if (ports.overlapping(port) !== undefined) return `VM "${name}"`;
    }
    return 'another program';
  }
}
