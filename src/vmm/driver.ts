/**
 * The port every virtual machine monitor stands behind. One folder per driver, the same file names in each.
 *
 * Nothing here belongs to one VMM alone. A driver never decides policy: the daemon resolves images, addresses, names and
 * which accelerator to use; the driver turns a MachineSpec into a process and watches that process.
 */

import type { Duplex } from 'node:stream';
import type { Accelerator, DriverName } from '../core/model/vm.ts';
import type { MachineShape } from './shape.ts';

/** What a driver can do on this host, as data, so that callers branch on it and `doctor` prints it. */
export interface DriverCapabilities {
  /** Where virtio devices sit: decides which modules the guest's initramfs needs. */
  readonly transports: readonly Transport[];
  /** What leads to the agent, and decides likewise. */
  readonly channel: Channel;
  readonly diskFormats: readonly ('raw' | 'qcow2')[];
  readonly networks: readonly MachineNetwork['kind'][];
  /** Runs as the user, without the root helper. */
  readonly rootless: boolean;
  /** `Machine.pause` and `resume` work; without, they throw `unsupported`. */
  readonly canPause: boolean;
  /** `Machine.save` and `VmmDriver.restore` work: a booted guest can be kept as files and go on from them. */
  readonly canSave: boolean;
  /** A connection on the channel goes on with a machine that was saved. Without, it has ended, as for a restored one. */
  readonly savingKeepsChannel: boolean;
  /** Machines restored from one frozen machine share its memory until they write to it. */
  readonly canRestorePrivately: boolean;
}

export type Transport = 'mmio' | 'pci';

export type Channel = 'console' | 'vsock';

/** The platform a probe found to work here: what the driver needs to start a machine, and what `doctor` shows. */
export interface Platform {
  readonly accelerator: Accelerator;
  /** The driver's own name of the machine type (`microvm`, `q35`; Firecracker has one). */
  readonly machine: string;
  readonly transport: Transport;
  /** Version of the VMM's program, e.g. `7.2.22`. */
  readonly vmmVersion: string;
}

/** A disk in the order the guest sees it: the first is /dev/vda. */
export interface MachineDisk {
  readonly id: string;
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  readonly readOnly: boolean;
}

/** User-mode network, no privileges. `outbound` false: nothing leaves the VM. Guest, gateway and DNS share one /24. */
export interface UserNetwork {
  readonly kind: 'user';
  readonly outbound: boolean;
  readonly mac: string;
  readonly guestIp: string;
  readonly gatewayIp: string;
  readonly dnsIp: string;
}

export type MachineNetwork =
  | { readonly kind: 'none' }
  /** A network card whose cable leads nowhere. What is frozen with it can be restored to every other kind but `none`. */
  | { readonly kind: 'unplugged'; readonly mac: string }
  | UserNetwork
  | { readonly kind: 'tap'; readonly tap: string; readonly mac: string };

/** Where the guest's memory lies. */
export type MachineMemory =
  | { readonly kind: 'anonymous' }
  /**
   * That of a frozen machine, a file of exactly the memory's size: it is read, and what the guest writes stays with the
   * process. What `restore` needs, and nothing else takes.
   */
  | { readonly kind: 'file'; readonly path: string };

export interface MachineSpec {
  /** For the process title and messages. */
  readonly name: string;
  readonly platform: Platform;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly memory: MachineMemory;
  readonly kernelPath: string;
  readonly initramfsPath: string;
  readonly disks: readonly MachineDisk[];
  readonly network: MachineNetwork;
  /** Existing directory, 0700, for sockets; short enough for 107-byte socket paths. */
  readonly socketDir: string;
  /** The serial console's output goes here (appended). */
  readonly consoleLogPath: string;
  /** stdout and stderr of the VMM process go here (appended). */
  readonly vmmLogPath: string;
}

/** What identifies a running machine to a later daemon. Plain JSON; part of handles.json. */
export interface MachineHandles {
  readonly driver: DriverName;
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: with the pid and the host's boot id it names one process for ever. */
  readonly pidStartTicks: number;
  readonly hostBootId: string;
  readonly controlSocketPath: string;
  readonly channelSocketPath: string;
  readonly argv: readonly string[];
}

export interface MachineExit {
  /** Null when unknown: the process was adopted, not a child. */
  readonly exitCode: number | null;
  readonly signal: string | null;
}

/** Whether time passes in the guest, or it was paused. */
export type MachineRunState = 'running' | 'paused';

export interface SaveOptions {
  /** State and memory appear here, 0600, both whole or neither. Their directories exist; they need not be the same. */
  readonly statePath: string;
  readonly memoryPath: string;
  /** They survive a power cut, not only a crash of this process. Default true; false for who syncs them later. */
  readonly durable?: boolean;
  readonly signal: AbortSignal;
}

/** The state of a frozen machine's devices and processors. Plain JSON. */
export interface FrozenState {
  readonly path: string;
  readonly sizeBytes: number;
  /** Hex. A state is loaded only when it still has this digest: VMMs trust what they load. */
  readonly sha256: string;
}

/** SHA-256, hex, of the files a spec names: who made them knows, and the driver does not read them. */
export interface ShapeDigests {
  readonly kernel: string;
  readonly initramfs: string;
}

export interface RestoreOptions {
  readonly state: FrozenState;
  /** What `VmmDriver.shape` said of the spec it was frozen with. */
  readonly shape: MachineShape;
  /** Of the spec that is restored. */
  readonly digests: ShapeDigests;
  /** Disks that are larger than they were when the machine was frozen: the guest is told. */
  readonly grownDisks?: readonly { readonly id: string; readonly sizeBytes: number }[];
  /** Awaited once the state is loaded, right before the guest goes on: it has not run when this fails, or never comes. */
  readonly beforeRun?: () => Promise<void>;
  /** Ends the process when it comes before the guest goes on. */
  readonly signal: AbortSignal;
}

/** A running VMM process. */
export interface Machine {
  readonly handles: MachineHandles;
  /** Settles once, when the process is gone, however it went. Never rejects. */
  readonly exited: Promise<MachineExit>;
  /**
   * Connects to the byte stream that leads to the agent; one connection at a time.
   * Waits until the socket accepts, at most until the signal aborts or the process is gone.
   * @throws {BangerError} `vmm_failed` when the process ended (with its last words), `cancelled`
   */
  connectChannel(signal: AbortSignal): Promise<Duplex>;
  /**
   * Stands the guest still: once this returns no vCPU runs, and what the guest has handed to its disks is written. Memory,
   * disks and connections stay as they are; time that counts in the guest stands still where the accelerator allows it,
   * and its wall clock falls behind everywhere. The machine stays paused beyond this process and until `resume`.
   * Idempotent. When it fails, the machine may come to stand still all the same: `runState` tells, `resume` undoes it.
   * @throws {BangerError} `vmm_failed` (it refused, or has ended), `timeout`, `unsupported`
   */
  pause(): Promise<void>;
  /**
   * The guest goes on where it stood; setting its wall clock is the caller's. Idempotent.
   * @throws {BangerError} as `pause`
   */
  resume(): Promise<void>;
  /** Asks the VMM, whoever paused the machine. @throws {BangerError} `vmm_failed`, `timeout` */
  runState(): Promise<MachineRunState>;
  /**
   * Plugs the card of a machine that was started with an `unplugged` network into another one: once. The guest sees nothing
   * of it. What the machine depends on (its shape) is the same.
   * @throws {BangerError} `unsupported`, `vmm_failed`, `timeout`
   */
  plug(network: UserNetwork): Promise<void>;
  /**
   * Does what makes the next `save` shorter, while the guest runs: what a machine that was itself restored has not touched of
   * its memory file is brought into the host's page cache. Best effort: never rejects.
   */
  prepareSave(signal: AbortSignal): Promise<void>;
  /**
   * Writes the memory and the state of the devices of a paused machine to files, from which `VmmDriver.restore` starts
   * others. The machine stays paused, however it goes: `resume` lets it go on. What the guest has handed to its disks is in
   * their files then; copying those is the caller's, before `resume`. At most once per pause, tries that failed included.
   * A connection on the channel goes on with this machine where the driver says so (`savingKeepsChannel`), and ends where not;
   * for a restored one it has ended.
   * @throws {BangerError} `invalid_state` (not paused, or saved since), `unsupported`, `vmm_failed`, `timeout`, `cancelled`,
   *   `limit_exceeded` (it sends more than a machine has), `no_space`, `io_error`
   */
  save(options: SaveOptions): Promise<FrozenState>;
  /** Ends the process (SIGKILL), paused or not, and waits until it is gone. Idempotent. */
  kill(): Promise<void>;
  /** Stops watching without touching the process: the daemon is going away, the machine stays. */
  release(): void;
}

export interface ProbeOptions {
  /** A kernel and, per transport, an initramfs that reaches the agent's HELLO. */
  readonly kernelPath: string;
  readonly initramfsFor: (transport: Transport) => Promise<string>;
  /**
   * Existing directory, short enough for sockets in a directory of the driver's own in it. The driver removes that
   * again, and what the probe of a daemon that was killed left in the same place.
   */
  readonly scratchDir: string;
  readonly accel: Accelerator | 'auto';
  readonly signal: AbortSignal;
  readonly onStep: (text: string) => void;
}

export interface ProbeAttempt {
  readonly platform: Platform;
  readonly works: boolean;
  readonly durationMs: number;
  /** Why not: the VMM's last words, or how long it was silent. */
  readonly reason?: string;
}

export interface ProbeResult {
  readonly chosen: Platform;
  readonly attempts: readonly ProbeAttempt[];
}

export interface VmmDriver {
  readonly name: DriverName;
  readonly capabilities: DriverCapabilities;
  /**
   * Finds out, by booting to the agent's hello within a bound, which accelerator and machine type work on this host.
   * Pure measurement: caching is the caller's. `accel` other than auto tries only that one.
   * @throws {BangerError} `dependency_missing` (no VMM), `vmm_failed` (nothing works; every attempt's reason), `cancelled`
   */
  probe(options: ProbeOptions): Promise<ProbeResult>;
  /** The whole command line a machine would be started with. Pure: `vm show` prints it. */
  argv(spec: MachineSpec): Promise<readonly string[]>;
  /**
   * Starts the process, detached from this one and from any request. `onSpawn` is awaited with the handles
   * as soon as the pid is known and before anything else, so that they are on disk first; when it rejects, the process
   * is ended. Does not wait for the VMM to be ready: one that ends at its start (a bad image, no memory) is reported
   * here or, a little later, by `connectChannel`.
   * @throws {BangerError} `dependency_missing`, `vmm_failed` with its last words
   */
  launch(spec: MachineSpec, onSpawn: (handles: MachineHandles) => Promise<void>): Promise<Machine>;
  /**
   * Everything that a machine frozen with this spec depends on; what one machine has and another has not (name, paths,
   * addresses, the network beyond the card) is not in it. Frozen machines are found by its `shapeKey`.
   * @throws {BangerError} `dependency_missing`, `vmm_failed`, `cancelled`
   */
  shape(spec: MachineSpec, digests: ShapeDigests, signal: AbortSignal): Promise<MachineShape>;
  /**
   * Starts a process that goes on where a frozen machine stood, with that machine's memory file mapped privately: any
   * number at a time. Disks are the caller's: copies or overlays of the frozen machine's, of the same sizes or grown. The
   * guest believes to be the frozen one (its MAC address included) until it is told otherwise. `onSpawn` as in `launch`.
   * Returns when the guest runs; whether it answers is for the caller to see. On any failure no process stays.
   * @throws {BangerError} `unsupported` (another shape: says what differs), `verify_failed` (state or memory are not what
   *   was frozen), both before anything is started; `dependency_missing`, `vmm_failed` with its last words, `timeout`,
   *   `cancelled`
   */
  restore(
    spec: MachineSpec,
    options: RestoreOptions,
    onSpawn: (handles: MachineHandles) => Promise<void>,
  ): Promise<Machine>;
  /** Finds a machine that an earlier daemon started: undefined when that process is gone or is not what the handles say. */
  adopt(handles: MachineHandles): Promise<Machine | undefined>;
}
