/** The repository of this host that a copy is of. Nobody here has said it of a copy that came with an imported snapshot. */

import { BangerError } from '../../../core/errors.ts';
import type { SourcedWorkspace, VmWorkspace } from '../../../core/model/workspace.ts';
import { shortId } from '../../../core/names.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { hostGit } from '../../../workspace/git.ts';
import { resolveCommit } from '../../../workspace/repo-state.ts';

/** Of a copy out of a file from elsewhere: which of this host's files are read and sent is not the file's to say. */
export function withoutSource(workspace: VmWorkspace): VmWorkspace {
  return { ...workspace, sourcePath: null, from: null, includeUntracked: false };
}

export function hasSource(workspace: VmWorkspace): workspace is SourcedWorkspace {
  return workspace.sourcePath !== null;
}

/** @throws {BangerError} `bad_request`: nobody has said it yet */
export function sourceOf(vmName: string, workspace: VmWorkspace): string {
  if (hasSource(workspace)) return workspace.sourcePath;
  throw new BangerError(
    'bad_request',
    `the copy in VM "${vmName}" came with an imported snapshot: of which repository here it is, is not known`,
    { hint: `say of which: banger vm workspace prepare ${vmName} PATH` },
  );
}

/**
 * @param topLevel of the repository that somebody says it is of; undefined: nobody does
 * @throws {BangerError} as `sourceOf`; `bad_request`: the repository has not the commit the copy was made from
 */
export async function withSource(
  runner: CommandRunner,
  vmName: string,
  workspace: VmWorkspace,
  topLevel: string | undefined,
  signal: AbortSignal,
): Promise<SourcedWorkspace> {
  if (hasSource(workspace)) return workspace;
  const sourcePath = topLevel ?? sourceOf(vmName, workspace);
  const { headCommit } = workspace;
  if ((await resolveCommit(hostGit(runner, sourcePath, signal), headCommit)) === undefined) {
    throw new BangerError(
      'bad_request',
      `${sourcePath} has not the commit ${shortId(headCommit)} that the copy in VM "${vmName}" was made from`,
      { hint: `give a clone that has it: banger vm workspace prepare ${vmName} PATH` },
    );
  }
  return { ...workspace, sourcePath };
}
