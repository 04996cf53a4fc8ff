/** What of a VM's copy of a repository stays as it was first asked for. */

import { BangerError } from '../../../core/errors.ts';
import type { VmWorkspace, WorkspaceMode } from '../../../core/model/workspace.ts';

export interface AskedCopy {
  /** Top of the working tree that is to be copied. */
  readonly sourcePath?: string | undefined;
  readonly guestPath?: string | undefined;
  readonly readOnly?: boolean | undefined;
  readonly mode?: WorkspaceMode | undefined;
}

/** `already_exists`, naming each option that asks for another copy than the one that is there; undefined: none does. */
export function otherCopy(vm: string, has: VmWorkspace, asked: AskedCopy): BangerError | undefined {
  const { sourcePath = has.sourcePath, guestPath = has.guestPath, mode = has.mode } = asked;
  const { readOnly = has.readOnly } = asked;
  const changes: string[] = [];
  const flags: string[] = [];
  if (has.sourcePath !== null && sourcePath !== has.sourcePath)
    changes.push(`the repository cannot change to ${sourcePath}`);
  if (guestPath !== has.guestPath) {
    changes.push(`--guest-path cannot change from ${has.guestPath} to ${guestPath}`);
    flags.push(`--guest-path ${guestPath}`);
  }
  if (readOnly !== has.readOnly) {
    changes.push(`--readonly cannot be ${readOnly ? 'added' : 'taken away'}`);
    if (readOnly) flags.push('--readonly');
  }
  if (mode !== has.mode) {
    changes.push(`--mode cannot change from ${has.mode} to ${mode}`);
    flags.push(`--mode ${mode}`);
  }
  if (changes.length === 0) return undefined;
  const there = `${has.guestPath}${has.readOnly ? ', read-only' : ''}${has.mode === 'full_copy' ? ', a full copy' : ''}`;
  return new BangerError(
    'already_exists',
    `VM "${vm}" has a copy of ${has.sourcePath ?? 'a repository'} at ${there}; ${changes.join('; ')}`,
    {
      hint:
        `to bring that copy up to date: banger vm workspace prepare ${vm}; ` +
        `for another one make another VM: ${['banger vm run', sourcePath ?? 'PATH', ...flags].join(' ')}`,
    },
  );
}
