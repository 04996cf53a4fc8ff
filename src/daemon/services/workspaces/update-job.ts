/** What bringing a copy up to date is given, and what it says afterwards. */

import type { SourcedWorkspace, VmWorkspace } from '../../../core/model/workspace.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import type { BytePath } from '../../../workspace/byte-path.ts';
import type { ShippedFiles, ShippedRecord } from '../../../workspace/shipped-record.ts';
import type { TreeChange } from '../../../workspace/tree-change.ts';

export interface UpdateJob extends ShippedFiles {
  readonly vmName: string;
  readonly workspace: SourcedWorkspace;
  /** As it is to be from now on; what was asked for anew is in it. */
  readonly asked: Pick<VmWorkspace, 'branch' | 'from' | 'includeUntracked'>;
  readonly agent: Pick<AgentClient, 'exec' | 'unpack' | 'sync'>;
  /** Of the copy, in the guest; undefined: `.git` in it. */
  readonly gitDir?: string | undefined;
  readonly force: boolean;
  /** With `force`: only these may be overwritten unchecked; undefined: all. */
  readonly saved?: ReadonlySet<BytePath> | undefined;
  readonly dryRun: boolean;
  /** The agent sends checks only, and HEAD stays where it is: nothing is changed in the guest. */
  readonly isTrial?: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
  /** The copy may not be mounted, when a daemon was killed before it came to that. */
  readonly mountAgain: () => Promise<void>;
  /** Called when the guest has it all: for the row. */
  readonly onShipped: (shipped: ShippedRecord) => Promise<void>;
}

export interface UpdateOutcome {
  readonly headCommit: string;
  readonly changes: readonly TreeChange[];
  readonly movesHead: boolean;
}
