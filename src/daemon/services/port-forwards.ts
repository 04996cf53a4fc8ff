/**
 * Published ports: TCP ports of the host that lead into VMs, carried by the daemon over the agent's channel. They need no
 * network of the guest's, and a client of a VM that stands still waits instead of failing.
 */

import { errorText } from '../../core/errors.ts';
import type { BoundPort, PublishedPort, VmRecord } from '../../core/model/vm.ts';
import type { Log } from '../../host/log.ts';
import type { Awake } from './awake.ts';
import { type PortTraffic, VmPorts } from './vm-ports.ts';

export interface PortForwardsDeps {
  readonly awake: Awake;
  readonly log: Log;
}

interface Entry {
  readonly name: string;
  readonly ports: VmPorts;
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
    return bound;
  }

  /** Listeners and connections of a VM. Idempotent. */
  close(vmId: string): void {
    const entry = this.#entries.get(vmId);
    this.#entries.delete(vmId);
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
    this.#entries.set(vm.id, { name: vm.name, ports });
    return ports;
  }

  async #listen(ports: VmPorts, vm: VmRecord, port: PublishedPort, index: number): Promise<BoundPort> {
    const before = vm.runtime.published?.[index];
    const isSame = before?.hostAddress === port.hostAddress && before.guestPort === port.guestPort;
    return await ports.listen(port, isSame ? before.hostPort : 0, () => this.#holder(port));
  }

  #holder(port: PublishedPort): string {
    for (const { name, ports } of this.#entries.values()) {
      if (ports.overlaps(port)) return `VM "${name}"`;
    }
    return 'another program';
  }
}
