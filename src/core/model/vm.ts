/** A VM as the store keeps it: one durable row, told apart from the handles that exist only while it runs. */

import type { VmWorkspace } from './workspace.ts';

export const VM_STATES = [
  'created',
  'starting',
  'running',
  'stopping',
  'stopped',
  'paused',
  'saved',
  'error',
] as const;
export type VmState = (typeof VM_STATES)[number];

/** Who is PID 1 once the guest is up: banger's agent (it reaps), or the image's own init. */
export const GUEST_INITS = ['agent', 'systemd'] as const;
export type GuestInit = (typeof GUEST_INITS)[number];

export const ACCELERATORS = ['kvm', 'tcg'] as const;
export type Accelerator = (typeof ACCELERATORS)[number];
export type AcceleratorChoice = Accelerator | 'auto';

export const DRIVER_NAMES = ['qemu', 'firecracker'] as const;
export type DriverName = (typeof DRIVER_NAMES)[number];

/** A TCP port of the host that leads to one in the VM. */
export interface PublishedPort {
  /** Numeric, IPv4 or IPv6, without brackets. */
  readonly hostAddress: string;
  /** 0 in what is asked for: any free one. */
  readonly hostPort: number;
  readonly guestPort: number;
}

/** What became of one. */
export interface BoundPort extends PublishedPort {
  /** Why nobody listens on it although the VM runs. */
  readonly problem?: string;
}

/** A TCP port that a program in the VM listens on, and that appears on the VM's own address of the host. */
export interface ForwardedPort {
  readonly port: number;
  /** Where in the guest; absent: a connection to the guest's loopback reaches it. */
  readonly address?: string;
  /** Why nobody listens on it here. */
  readonly problem?: string;
}

/** What was asked for. Changed only by `vm set`, on a stopped VM. */
export interface VmSpec {
  readonly imageName: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly diskSizeBytes: number;
  /** Outbound network. Off unless asked for. */
  readonly nat: boolean;
  readonly init: GuestInit;
  readonly accel: AcceleratorChoice;
  readonly driver: DriverName;
  /** Deleted when the client that made it hangs up, and by the next daemon if this one dies (`vm run --rm`). */
  readonly ephemeral: boolean;
  /** In the order given; see MAX_PUBLISHED_PORTS. */
  readonly publish: readonly PublishedPort[];
}

export const STARTED_FROM = ['boot', 'template', 'memory'] as const;
export type StartedFrom = (typeof STARTED_FROM)[number];

/** What the last start made of it. Every field is absent until the first start. */
export interface VmRuntime {
  /**
   * A creation or deletion that has begun and not ended: a daemon that finds it after a crash of the one before
   * finishes the deletion, or undoes the creation.
   */
  readonly pending?: 'create' | 'delete';
  readonly accelerator?: Accelerator;
  readonly machine?: string;
  /** The guest kernel's boot id (/proc/sys/kernel/random/boot_id in the guest). */
  readonly bootId?: string;
  readonly startedAt?: string;
  /** A template: a frozen copy of a booted guest, restored. */
  readonly startedFrom?: StartedFrom;
  readonly stoppedAt?: string;
  /**
   * Who made it stand still, in `paused` and `saved`. A VM that did so because nobody used it (`idle`) goes on by itself when
   * somebody does; one that a user stopped waits for that user.
   */
  readonly heldBy?: 'user' | 'idle';
  /** The last time it went on by itself. */
  readonly woken?: {
    readonly at: string;
    /** What wanted it: `exec`, `tcp` … */
    readonly by: string;
    readonly durationMs: number;
  };
  /** Why the VM is in state `error`, or how its last run ended unasked. */
  readonly lastError?: string;
  /** The ports of `spec.publish` as the last start has them, in that order: with the number that was chosen for a 0. */
  readonly published?: readonly BoundPort[];
  /** What its programs listened on when they were last asked: it outlives a sleep and a daemon. */
  readonly forwarded?: readonly ForwardedPort[];
}

export interface VmStats {
  readonly sampledAt?: string;
  /** CPU time of the VMM process since its start, milliseconds. */
  readonly cpuMs?: number;
  /** Resident memory of the VMM process, bytes. */
  readonly rssBytes?: number;
  /** Bytes the VM's own disk files occupy on the host. */
  readonly diskBytes?: number;
}

export interface VmRecord {
  /** 32 lower-case hex digits. */
  readonly id: string;
  readonly name: string;
  readonly imageId: string;
  readonly guestIp: string;
  readonly state: VmState;
  readonly spec: VmSpec;
  readonly runtime: VmRuntime;
  readonly stats: VmStats;
  readonly workspace: VmWorkspace | null;
  /** RFC 3339 with milliseconds. */
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly lastTouchedAt: string;
}
