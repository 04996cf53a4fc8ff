/** A copy of a host git repository inside a VM, as the VM's row has it. */

/**
 * How a copy is made. `shallow_overlay`: the last commits, and the files on a disk of their own, under an overlay on the VM's.
 * `full_copy`: all of the history, and the submodules, as plain files on the VM's disk.
 */
export const WORKSPACE_MODES = ['shallow_overlay', 'full_copy'] as const;
export type WorkspaceMode = (typeof WORKSPACE_MODES)[number];

/**
 * What was put into the guest, as git objects: the files as they were then, changes of the working tree included. In the guest
 * the ref SHIPPED_REF points to the commit. By its digest it is the fingerprint of the copy.
 */
export interface ShippedState {
  /** HEAD's own commit where the tree is HEAD's; else one on top of it that no branch has. 40 or 64 hex digits. */
  readonly commit: string;
  readonly tree: string;
  /** The guest's branch; null: a detached HEAD. */
  readonly branch: string | null;
  /** What was staged then, 64 hex digits. */
  readonly staged: string;
}

export const SHIPPED_REF = 'refs/banger/shipped';

/** What a repository wants installed beside it, and what became of that. See core/toolingplan. */
export interface WorkspaceTools {
  /** Asked for in mise's or asdf's own files. */
  readonly required: boolean;
  /** Files of the repository that mise must be told to trust. */
  readonly trust: readonly string[];
  /** What mise does not find in files of its own: `node@20`. */
  readonly extra: readonly string[];
  /** All that is asked for, so that it can be told what is new: `node@20`. Absent in rows that were written without it. */
  readonly asked?: readonly string[];
  /** Absolute path of mise in the guest, once all is installed: commands run with it. */
  readonly mise?: string;
}

/** A submodule that was copied, as a repository of its own. */
export interface CopiedSubmodule {
  /** Below the top of the copy. */
  readonly path: string;
  /** Its git directory, below `.git` of the top: `modules/<name>`, `modules/<name>/modules/<name>` … */
  readonly gitDir: string;
  readonly headCommit: string;
  readonly shipped: ShippedState;
}

export interface VmWorkspace {
  readonly guestPath: string;
  /** Top of the repository's working tree on the host. Null: not known; the copy came with an imported snapshot. */
  readonly sourcePath: string | null;
  /** The commit the copy was made from, 40 or 64 hex digits. */
  readonly headCommit: string;
  readonly mode: WorkspaceMode;
  /** The guest cannot write to it. */
  readonly readOnly: boolean;
  /** As asked for, so that it can be shipped again likewise: a branch of the guest's own, and the commit it starts at. */
  readonly branch: string | null;
  readonly from: string | null;
  readonly includeUntracked: boolean;
  /** Null in rows that were written without it. */
  readonly shipped: ShippedState | null;
  /** Of a full copy: also those inside others. */
  readonly submodules: readonly CopiedSubmodule[];
  /** Null: the repository asks for none. */
  readonly tools: WorkspaceTools | null;
  /** RFC 3339 with milliseconds. */
  readonly preparedAt: string;
  /** It may not be in its place in the guest: nobody has heard yet how putting it there ended. */
  readonly unplaced?: true;
}

/** One whose repository is known. */
export interface SourcedWorkspace extends VmWorkspace {
  readonly sourcePath: string;
}

/** Whether the files of the copy are an image on the VM's transfer disk; else nothing that counts is on it. */
export function isOnTransferDisk(workspace: Pick<VmWorkspace, 'mode'> | null): boolean {
  return workspace?.mode === 'shallow_overlay';
}
