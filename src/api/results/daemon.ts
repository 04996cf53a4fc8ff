/** What the daemon says of itself, of what it works on, and of what takes room on the disk. */

import type { Progress } from '../contract.ts';

export interface DaemonHello {
  readonly version: string;
  readonly pid: number;
}

export interface DaemonStatus extends DaemonHello {
  readonly startedAt: string;
  readonly socketPath: string;
  readonly stateDir: string;
  readonly logPath: string;
  readonly rssBytes: number;
  readonly vmsRunning: number;
  readonly vmsTotal: number;
  readonly operations: number;
  /** A machine waits, paused, for the next VM of its kind: docs/templates.md. */
  readonly standby: boolean;
  /** Of the server that answers for names of VMs; null: the settings want none. */
  readonly names: NameServerStatus | null;
}

export interface NameServerStatus {
  /** `127.0.0.1:42069`. */
  readonly address: string;
  readonly state: 'starting' | 'listening' | 'failed';
  /** Why nobody is answered. */
  readonly problem: string | null;
}

export interface OperationSummary {
  readonly id: string;
  readonly method: string;
  readonly startedAt: string;
  /** The VM or image it works on, once known. */
  readonly subject: string | null;
  readonly progress: Progress | null;
}

/** What one kind of thing takes on the disk. */
export interface DiskUseRow {
  /** Stable: `images`, `kernels`, `templates` … */
  readonly kind: string;
  readonly count: number;
  /** Blocks on the disk. */
  readonly allocatedBytes: number;
  /** What `reclaim` would free of that. */
  readonly reclaimableBytes: number;
  /** What to run or change; null when there is nothing to reclaim. */
  readonly reclaim: string | null;
}

export interface DiskUse {
  readonly stateDir: string;
  readonly cacheDir: string;
  readonly rows: readonly DiskUseRow[];
  readonly allocatedBytes: number;
  readonly reclaimableBytes: number;
  /** More files than are counted: the figures are too small. */
  readonly truncated: boolean;
}
