/** That the copy in a VM is not of the commit the host is at. */

import type { WorkspaceDrift } from '../../api/results/workspace.ts';
import { counted } from '../../core/units.ts';
import type { CliIo } from '../cli-context.ts';
import { styleFor } from './style.ts';

const SHORT = 12;

/** One line on stderr; with `json` one JSON object. */
export function warnOfDrift(
  io: Pick<CliIo, 'stderr' | 'env'>,
  ref: string,
  drift: WorkspaceDrift,
  json: boolean,
): void {
  if (json) {
    io.stderr.write(`${JSON.stringify({ warning: { code: 'workspace_behind', ...drift } })}\n`);
    return;
  }
  const style = styleFor(io.stderr, io.env);
  io.stderr.write(
    `${style.yellow('banger:')} the copy in ${ref} is ${distanceOf(drift)} ` +
      `(${drift.recorded.slice(0, SHORT)} → ${drift.current.slice(0, SHORT)} "${drift.subject}"); ` +
      `add --auto-prepare, or: banger vm workspace prepare ${ref}\n`,
  );
}

/** `3 commits behind`, `2 commits behind, with 1 that is gone here`, `of a commit that is gone here` */
export function distanceOf({ behind, ahead }: WorkspaceDrift): string {
  if (behind === null || ahead === null) return 'of a commit that is gone here';
  const commits = (count: number): string => counted(count, 'commit');
  if (behind === 0) return `${commits(ahead)} ahead`;
  return ahead === 0 ? `${commits(behind)} behind` : `${commits(behind)} behind and ${ahead} apart`;
}
