/**
 * `banger doctor`: looks at the host, the daemon, the state, images, VMs, settings and who may read what, and changes
 * nothing. `fix` mends what is safe to mend. Runs in a process of its own, without a daemon, and never starts one.
 */

import type { DoctorFix, DoctorReport } from '../../api/results/doctor.ts';
import type { BangerPaths } from '../../host/paths.ts';
import { type CommandRunner, createRunner } from '../../host/runner.ts';
import type { OperationHandle } from '../operations.ts';
import type { Check } from './check.ts';
import { CONFIG_CHECKS } from './config.ts';
import { DoctorContext, type DoctorSetting } from './context.ts';
import { DAEMON_CHECKS } from './daemon.ts';
import { fixAll } from './fix.ts';
import { HOST_CHECKS } from './host.ts';
import { type HostFacts, thisHost } from './host-facts.ts';
import { IMAGE_CHECKS } from './images.ts';
import { runChecks, worstOf } from './run-checks.ts';
import { SECURITY_CHECKS } from './security.ts';
import { SSH_CHECKS } from './ssh.ts';
import { STATE_CHECKS } from './state.ts';
import { VM_SNAPSHOT_CHECKS } from './vm-snapshots.ts';
import { VM_CHECKS } from './vms.ts';

/** In the order of a report; the rows of docs/doctor.md. */
export const CHECKS: readonly Check<DoctorContext>[] = [
  ...HOST_CHECKS,
  ...DAEMON_CHECKS,
  ...STATE_CHECKS,
  ...IMAGE_CHECKS,
  ...VM_CHECKS,
  ...VM_SNAPSHOT_CHECKS,
  ...CONFIG_CHECKS,
  ...SSH_CHECKS,
  ...SECURITY_CHECKS,
];

export interface DoctorDeps {
  readonly paths: BangerPaths;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** HANDSHAKE_VERSION: a daemon of another one is not asked. */
  readonly version: string;
  /** Where the installation's own binaries for guest and host lie. */
  readonly guestBinDir: string;
  /** Default: real programs. */
  readonly runner?: CommandRunner;
  /** Default: all. */
  readonly checks?: readonly Check<DoctorContext>[];
  /** Where tests put another host. */
  readonly host?: Partial<HostFacts>;
}

export interface Doctor {
  /** Changes no byte below the state, cache, config and runtime directories. @throws {BangerError} `cancelled` */
  run(params: { readonly deep: boolean }, operation: OperationHandle): Promise<DoctorReport>;
  /**
   * What could be mended by itself, mended (or only told, with `dryRun`): modes of our own files, sockets and
   * temporaries nobody uses, an unfinished restore. Never a VM's files, a snapshot or a process.
   * @throws {BangerError} `cancelled`
   */
  fix(params: { readonly dryRun: boolean }, operation: OperationHandle): Promise<readonly DoctorFix[]>;
}

export function createDoctor(deps: DoctorDeps): Doctor {
  const checks = deps.checks ?? CHECKS;
  const setting: DoctorSetting = {
    paths: deps.paths,
    env: deps.env,
    version: deps.version,
    guestBinDir: deps.guestBinDir,
    runner: deps.runner ?? createRunner(),
    host: { ...thisHost(), ...deps.host },
  };
  return {
    run: async ({ deep }, { signal, progress }) => {
      await using context = new DoctorContext(setting, { deep, progress });
      const wanted = checks.filter((check) => deep || check.deep !== true);
      const results = await runChecks(wanted, context, { signal, onProgress: tell(progress) });
      const findings = results.flatMap((result) => result.findings);
      return { worst: worstOf(findings.map(({ severity }) => severity)), findings };
    },
    fix: async ({ dryRun }, { signal, progress }) => {
      const quick = checks.filter((check) => check.deep !== true);
      return await fixAll(quick, setting, { dryRun, signal, progress });
    },
  };
}

function tell(progress: OperationHandle['progress']) {
  return (title: string, done: number, total: number): void =>
    progress({ step: 'doctor', text: `looking at: ${title}`, done, total, unit: 'items' });
}
