/** What a guest changed in the submodules of its copy. */

import { BangerError } from '../../../core/errors.ts';
import type { VmWorkspace } from '../../../core/model/workspace.ts';
import { bytePath } from '../../../workspace/byte-path.ts';
import type { GuestRepo } from '../../../workspace/guest-git-runner.ts';
import { countGuestCommits } from '../../../workspace/guest-patch.ts';
import { withGuestTree } from '../../../workspace/guest-tree.ts';
import type { CountedChange } from '../../../workspace/tree-change.ts';

export interface ChangedSubmodule {
  /** Below the top of the copy. */
  readonly path: string;
  /** Since it was shipped; paths from the top of the copy. */
  readonly changes: readonly CountedChange[];
}

/** Those in which files were changed or commits were made, and those that are no repositories any more. */
export async function changedSubmodules({
  workspace,
  repo,
}: {
  readonly workspace: VmWorkspace;
  readonly repo: GuestRepo;
}): Promise<readonly ChangedSubmodule[]> {
  const found: ChangedSubmodule[] = [];
  for (const { path, shipped, headCommit } of workspace.submodules) {
    const own = { ...repo, path: `${workspace.guestPath}/${path}` };
    try {
      const changes = await withGuestTree({ ...own, base: shipped.commit, hasSubmodules: true }, (tree) =>
        tree.changesSince(shipped.commit),
      );
      const commits = await countGuestCommits(own, headCommit);
      const named = changes.map((change) => ({ ...change, path: `${bytePath(path)}/${change.path}` }));
      if (changes.length > 0 || commits > 0) found.push({ path, changes: named });
    } catch (error) {
      if (!(error instanceof BangerError) || error.code !== 'guest_failed') throw error;
      found.push({ path, changes: [] });
    }
  }
  return found;
}
