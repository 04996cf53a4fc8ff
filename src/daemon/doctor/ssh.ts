/** Whether ssh clients of this user find VMs, and with a key they will take. */

import { join } from 'node:path';
import { BangerError, errorText } from '../../core/errors.ts';
import { VM_SUFFIX } from '../../core/ssh/client-config.ts';
import { findBlock } from '../../core/ssh/include-block.ts';
import { readTextFile } from '../../host/files.ts';
import { type Check, failure, info, ok, type Outcome, warning } from './check.ts';
import type { DoctorContext } from './context.ts';
import { factsOf } from './host-facts.ts';
import { modeProblem } from './modes.ts';

const MAX_BYTES = 1024 * 1024;
const INSTALL = 'banger ssh-config --install';

const clients: Check<DoctorContext> = {
  id: 'config.ssh',
  group: 'config',
  title: 'ssh clients',
  timeoutMs: 2000,
  run: async (context) => {
    const { sshKeyPath } = await context.configOrDefault();
    const setUp = await whetherSetUp(context);
    const problem = sshKeyPath === null ? undefined : keyProblem(sshKeyPath, context.host.uid);
    return problem === undefined ? setUp : [problem, setUp];
  },
};

async function whetherSetUp({ host, paths }: DoctorContext): Promise<Outcome> {
  if (host.homeDir === null)
    return warning(`the user database has no entry for uid ${host.uid}: ssh does not run without one`);
  const file = join(host.homeDir, '.ssh', 'config');
  try {
    const text = (await readTextFile(file, MAX_BYTES)) ?? '';
    const block = findBlock(Buffer.from(text).toString('latin1'));
    if (block?.path === paths.sshConfigFile) return ok(`${file} includes banger: ssh NAME${VM_SUFFIX}`);
    if (block !== undefined) return info(`${file} includes another instance of banger: ${block.path}`);
    return info(
      `ssh NAME${VM_SUFFIX}, scp, rsync and editors are not set up; banger vm ssh needs no set-up`,
      {
        fix: INSTALL,
      },
    );
  } catch (error) {
    const hint = error instanceof BangerError ? error.hint : undefined;
    return warning(`${file}: ${errorText(error)}`, hint === undefined ? {} : { fix: hint });
  }
}

/** The user's own; the one banger makes is looked at with its other files. */
function keyProblem(file: string, uid: number): Outcome | undefined {
  if (factsOf(file) === undefined)
    return failure(`ssh_key_path: there is no ${file}`, { fix: `ssh-keygen -t ed25519 -f ${file}` });
  const problem = modeProblem(file, { kind: 'file', needed: true, mayBeLink: true }, uid);
  if (problem === undefined || problem.severity === 'info') return undefined;
  return failure(`ssh_key_path: ${problem.found}`, problem.fix === undefined ? {} : { fix: problem.fix });
}

export const SSH_CHECKS: readonly Check<DoctorContext>[] = [clients];
