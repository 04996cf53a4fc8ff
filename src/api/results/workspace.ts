/** Results of the methods about copies of repositories in VMs. */

import type { WorkspaceMode } from '../../core/model/workspace.ts';
import type { ToolingPlan } from '../../core/toolingplan/model.ts';

/** How far a repository has gone on since a VM's copy was made of it. */
export interface WorkspaceDrift {
  /** Commits: what the copy was made from, and what would be shipped now. */
  readonly recorded: string;
  readonly current: string;
  /** First line of the current commit's message. */
  readonly subject: string;
  /** Commits that the copy lacks. Null: the repository does not know the recorded commit any more. */
  readonly behind: number | null;
  /** Commits of the copy that are not in the current history: it was rewritten, or is another branch's. */
  readonly ahead: number | null;
}

/** Facts about the copy that `vm run PATH` made. */
export interface WorkspaceReport {
  readonly guestPath: string;
  readonly sourcePath: string;
  readonly headCommit: string;
  readonly branch: string | null;
  readonly files: number;
  readonly bytes: number;
  /** Untracked, not ignored, and left behind. */
  readonly untrackedLeft: number;
}

/** A path that differs between two states of a workspace. */
export interface WorkspaceChange {
  /** As `displayPath` writes it. */
  readonly path: string;
  readonly kind: 'added' | 'modified' | 'deleted' | 'type_changed';
  /** Null for a binary file, and where lines are not counted. */
  readonly insertions: number | null;
  readonly deletions: number | null;
}

export type FileChange = 'added' | 'modified' | 'deleted';

/** A file that was changed since it was shipped; null: not on that side. */
export interface WorkspaceFileStatus {
  /** As `displayPath` writes it. */
  readonly path: string;
  readonly here: FileChange | null;
  readonly there: FileChange | null;
  /** Changed on both sides to the same: no conflict. */
  readonly same: boolean;
}

export interface WorkspaceStatus {
  readonly vm: string;
  readonly guestPath: string;
  /** Null: not known; the copy came with an imported snapshot. */
  readonly sourcePath: string | null;
  readonly headCommit: string;
  readonly mode: WorkspaceMode;
  readonly readOnly: boolean;
  readonly preparedAt: string;
  /** Null: the repository is at the commit that was shipped, or cannot be looked at. */
  readonly drift: WorkspaceDrift | null;
  /** False: what was shipped is not known any more, so changes here are not. */
  readonly knowsHere: boolean;
  /** The last shipping was cut off: what it brought counts as changed in the guest, until the next one has ended. */
  readonly cutOff: boolean;
  /** Made in the guest. */
  readonly commits: number;
  /** By path, at most the first 10,000. */
  readonly files: readonly WorkspaceFileStatus[];
  readonly total: number;
  /** Repositories inside the copy, which are not part of it. */
  readonly nested: readonly string[];
}

/** The guest's changes as a patch. */
export interface WorkspaceExported {
  readonly vm: string;
  /** The file that was written; null: a stream, or nothing. */
  readonly path: string | null;
  /** Of the patch; 0 when only numbers were asked for. */
  readonly bytes: number;
  /** The commit it applies to. */
  readonly base: string;
  /** Commits made in the guest since then: what they changed is in it. */
  readonly commits: number;
  /** The first 10,000 of them. */
  readonly changes: readonly WorkspaceChange[];
  readonly files: number;
  readonly insertions: number;
  readonly deletions: number;
  /** It holds changes that the host had not committed when the copy was made. */
  readonly includesShipped: boolean;
  /** Repositories inside the guest's, which are left out. */
  readonly nested: readonly string[];
}

/** The guest's changes, merged onto files of the host. */
export interface WorkspaceApplied {
  readonly vm: string;
  /** Top of the working tree they were merged onto. */
  readonly dir: string;
  /** False: nothing was written, because of conflicts or because it was only tried. */
  readonly applied: boolean;
  /** What was written there, or would be; the first 10,000. */
  readonly changes: readonly WorkspaceChange[];
  readonly files: number;
  readonly conflicts: readonly { readonly path: string; readonly why: string }[];
  readonly nested: readonly string[];
}

/** The guest's commits as a branch of a host repository. */
export interface WorkspaceFetched {
  readonly vm: string;
  readonly dir: string;
  readonly branch: string;
  /** The branch's name in the guest; null: its HEAD. */
  readonly guestBranch: string | null;
  readonly commit: string;
  /** Where the branch was; null: it is new. */
  readonly oldCommit: string | null;
  /** Commits that it has and the commit the copy was made from does not. */
  readonly commits: number;
  /** Files that differ from the guest's HEAD, and so are not in it. */
  readonly uncommitted: number;
}

export interface WorkspacePlan extends WorkspaceReport {
  readonly mode: WorkspaceMode;
  readonly tools: ToolingPlan;
  /** Paths relative to the repository's root, as git orders them. Not UTF-8: written with \xNN escapes. */
  readonly paths: readonly string[];
}

export interface SavedPatch {
  readonly path: string;
  readonly bytes: number;
  /** Changed by the guest since it was shipped to. */
  readonly files: number;
  readonly commits: number;
}

/** What `workspace.prepare` did, or would do. */
export interface WorkspacePrepared {
  readonly vm: string;
  readonly guestPath: string;
  readonly sourcePath: string;
  /** `created`: there was no copy before. */
  readonly outcome: 'created' | 'updated' | 'unchanged';
  readonly headCommit: string;
  /** What it was before; null: there was no copy. */
  readonly previousHead: string | null;
  /** Files written and deleted in the guest, at most the first 1000 by name; all of them are counted. */
  readonly files: number;
  readonly deleted: number;
  readonly paths: readonly string[];
  /** Untracked, not ignored, and left behind; null: not looked at. */
  readonly untrackedLeft: number | null;
  /** What the guest had changed, saved before it was overwritten; null: nothing was asked for, or nothing changed. */
  readonly patch: SavedPatch | null;
  /** Asked for by the repository, not installed, and not asked for the last time; null: nothing. */
  readonly tools: ToolingPlan | null;
  readonly elapsedMs: number;
}
