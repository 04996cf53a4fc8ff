/** Results of the methods about snapshots of the state database. */

import type { SnapshotEncoding } from '../../core/model/snapshot.ts';

/** A snapshot in the local collection, or just made, pulled or verified. */
export interface SnapshotView {
  /** `sha256:<64 hex>`. */
  readonly digest: string;
  /** Names that point to it: `latest`, a date, one the user gave. */
  readonly refs: readonly string[];
  /** Path of the payload. */
  readonly path: string;
  readonly bytes: number;
  readonly encodedBytes: number;
  readonly encoding: SnapshotEncoding;
  readonly createdAt: string;
  readonly sourceVersion: string;
  readonly migrationVersion: number;
  /** Decimal digits of a u64. */
  readonly controlVersion: string;
  readonly tableCounts: Readonly<Record<string, number>>;
  /** Why it cannot be restored, where looking at it showed that; null otherwise. */
  readonly problem: string | null;
}

export interface StateExported extends SnapshotView {
  /** The same state had been exported before. */
  readonly existed: boolean;
}

/** What `state verify` found out about a snapshot, or about the database (then `digest` is what an export would have). */
export interface StateVerified {
  readonly subject: string;
  readonly digest: string;
  readonly migrationVersion: number;
  readonly controlVersion: string;
  readonly tableCounts: Readonly<Record<string, number>>;
  /** What was checked, in order, in words for people. */
  readonly checks: readonly string[];
}

export interface StateRestored {
  readonly digest: string;
  readonly migrationVersion: number;
  readonly tableCounts: Readonly<Record<string, number>>;
  /** Where the database that was replaced is kept; null when there was none. */
  readonly previous: string | null;
  /** Things its rows name that are not on this host: one sentence each, with what to run. */
  readonly missing: readonly string[];
}

export interface StatePushed {
  readonly repository: string;
  /** Of the OCI manifest: what a pull takes. */
  readonly digest: string;
  readonly snapshot: string;
  readonly tag: string | null;
  /** Blobs the registry did not have. */
  readonly uploadedBytes: number;
}

export interface StateDiffRow {
  readonly table: string;
  /** The row's name where it has one, else its key. */
  readonly row: string;
  readonly change: 'added' | 'removed' | 'changed';
  /** Only of `changed`. Long values are cut. */
  readonly columns: readonly { readonly column: string; readonly from: string; readonly to: string }[];
}

export interface StateDiff {
  readonly from: string;
  readonly to: string;
  readonly rows: readonly StateDiffRow[];
  /** More rows differ than are listed. */
  readonly truncated: boolean;
}

export interface StateRebuilt {
  /** Rows found in VM and image directories that the database lacks, and were added (or would be). */
  readonly added: readonly {
    readonly kind: 'image' | 'vm';
    readonly name: string;
    readonly id: string;
    /** What had to be changed so that it fits beside the other rows (a taken name or address); null: nothing. */
    readonly note: string | null;
  }[];
  /** Directories that could not be used, and why. */
  readonly skipped: readonly { readonly path: string; readonly why: string }[];
  /** Null when nothing was to be done, or with dryRun. */
  readonly restored: StateRestored | null;
}
