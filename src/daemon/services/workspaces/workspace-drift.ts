/** Whether the host's repository has gone on since a VM's copy of it was made. Beside a command, so never in its way for long. */

import type { WorkspaceDrift } from '../../../api/results/workspace.ts';
import { errorText } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { Log } from '../../../host/log.ts';
import type { CommandRunner } from '../../../host/runner.ts';
import { hostGit } from '../../../workspace/git.ts';
import { headDrift } from '../../../workspace/head-drift.ts';

/** A repository on a file system that does not answer must not keep a command from starting. */
const TIMEOUT_MS = 2000;

export class DriftWatch {
  readonly #runner: CommandRunner;
  readonly #log: Log;

  constructor(deps: { runner: CommandRunner; log: Log }) {
    this.#runner = deps.runner;
    this.#log = deps.log;
  }

  /** Null: it has not, or that cannot be found out. Never rejects. */
  async of(vm: Pick<VmRecord, 'name' | 'workspace'>, signal: AbortSignal): Promise<WorkspaceDrift | null> {
    if (vm.workspace === null) return null;
    const { sourcePath, headCommit, from } = vm.workspace;
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      return await headDrift(hostGit(this.#runner, sourcePath, inTime), headCommit, from);
    } catch (error) {
      this.#log.debug({ vm: vm.name, reason: errorText(error) }, 'the repository could not be looked at');
      return null;
    }
  }
}
