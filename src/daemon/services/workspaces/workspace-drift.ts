/** Whether the host's repository has gone on since a VM's copy of it was made. Beside a command, so never in its way for long. */

import type { WorkspaceDrift } from '../../../api/results/workspace.ts';
import { errorText } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { Log } from '../../../host/log.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { hostGit } from '../../../workspace/git.ts';
import { headDrift } from '../../../workspace/head-drift.ts';
import type { KnownRepos } from '../../../workspace/known-repos.ts';
import { abandonable } from '../../abandonable.ts';
import { hasSource } from './workspace-source.ts';

/** A repository on a file system that does not answer must not keep a command from starting. */
const TIMEOUT_MS = 2000;

export class DriftWatch {
  readonly #runner: CommandRunner;
  readonly #repos: KnownRepos;
  readonly #log: Log;

  constructor(deps: { runner: CommandRunner; repos: KnownRepos; log: Log }) {
    this.#runner = deps.runner;
    this.#repos = deps.repos;
    this.#log = deps.log;
  }

  /** Null: it has not, or that cannot be found out. Never rejects. */
  async of(vm: Pick<VmRecord, 'name' | 'workspace'>, signal: AbortSignal): Promise<WorkspaceDrift | null> {
    if (vm.workspace === null || !hasSource(vm.workspace)) return null;
    const { sourcePath, headCommit, from } = vm.workspace;
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      const git = hostGit(this.#runner, sourcePath, inTime);
      const known = from === null ? await abandonable(this.#repos.get(git, sourcePath), inTime) : undefined;
      return known?.headCommit === headCommit ? null : await headDrift(git, headCommit, from);
    } catch (error) {
      this.#log.debug({ vm: vm.name, reason: errorText(error) }, 'the repository could not be looked at');
      return null;
    }
  }
}
