/** Results of the methods about kept moments of VMs. */

/** A moment of a VM that is kept. */
export interface VmSnapshotView {
  readonly id: string;
  readonly name: string;
  /** As it was called then; `exists`: there is a VM of that id. */
  readonly vm: { readonly id: string; readonly name: string; readonly exists: boolean };
  /** Came from a file: VMs can be made of it, none can be put back to it. */
  readonly imported: boolean;
  readonly createdAt: string;
  readonly imageName: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly diskSizeBytes: number;
  /** False: the disk only. */
  readonly withMemory: boolean;
  /** Blocks on the host's disk. */
  readonly allocatedBytes: number;
  readonly dir: string;
}

export interface VmSnapshotDetail extends VmSnapshotView {
  /** What it is tied to: VMM, kernel, CPU model … by the names people know. Empty for a snapshot of the disk only. */
  readonly needs: Readonly<Record<string, string>>;
  /** Why it cannot be used now; null: it can. */
  readonly problem: string | null;
}

/** `name`: the id of one that was damaged. */
export interface VmSnapshotDeleted {
  readonly id: string;
  readonly name: string;
}

export interface VmSnapshotTaken {
  readonly snapshot: VmSnapshotView;
  /** How long the VM stood still. */
  readonly pauseMs: number;
}

export interface VmSnapshotExported {
  readonly snapshot: VmSnapshotView;
  /** Null: it went to a stream. */
  readonly path: string | null;
  /** Of what was written. */
  readonly bytes: number;
  /** Of what is in the snapshot's files and not zero. */
  readonly dataBytes: number;
}

export interface VmSnapshotList {
  readonly snapshots: readonly VmSnapshotView[];
  readonly broken: readonly { readonly id: string; readonly dir: string; readonly problem: string }[];
}
