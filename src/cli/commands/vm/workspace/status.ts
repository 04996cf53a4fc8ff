import type { WorkspaceFileStatus, WorkspaceStatus } from '../../../../api/results/workspace.ts';
import { counted } from '../../../../core/units.ts';
import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVms } from '../../../complete-names.ts';
import { jsonFlag } from '../../../flags.ts';
import { withProgress } from '../../../long-call.ts';
import { distanceOf } from '../../../output/drift.ts';
import { printJson } from '../../../output/json.ts';
import { formatTable } from '../../../output/table.ts';
import { withClient } from '../../../with-client.ts';

const HEADER = ['HERE', 'VM', 'FILE'] as const;

export const command = defineCommand({
  description:
    'Names the files that were changed since the copy was made or brought up to date: on this host, in the VM, and on both sides. ' +
    'Those changed on both sides, unless to the same, keep "vm workspace prepare" from writing anything. Files that git ignores are not looked at.',
  examples: [
    { line: 'banger vm workspace status dev', brief: 'what differs, and where it was changed' },
    {
      line: `banger vm workspace status dev --json | jq '.files[] | select(.here and .there)'`,
      brief: 'what was changed on both sides',
    },
  ],
  argument: oneArgument('VM', 'Name or id of a running VM', completeVms),
  flags: { json: jsonFlag },
  async run(context, flags, [ref = '']) {
    const status = await withClient(context, (client) =>
      withProgress(context, (work) => client.call('workspace.status', { ref }, work)),
    );
    if (flags.json) printJson(context.stdout, status);
    else context.stdout.write(textOf(status));
  },
});

function textOf(status: WorkspaceStatus): string {
  const { vm, guestPath, sourcePath, headCommit, mode, drift, commits, files, total } = status;
  const behind = drift === null ? '' : `, ${distanceOf(drift)}`;
  const kind = mode === 'full_copy' ? 'full copy' : 'copy';
  const of = sourcePath ?? 'a repository that is not known here';
  const lines = [`${vm}:${guestPath} is a ${kind} of ${of} at ${headCommit.slice(0, 12)}${behind}`];
  if (commits > 0) lines.push(`${counted(commits, 'commit was', 'commits were')} made in the VM`);
  if (sourcePath === null) lines.push(`say of which it is: banger vm workspace prepare ${vm} PATH`);
  else if (!status.knowsHere)
    lines.push('what was shipped is not known any more: changes here are not listed');
  if (status.cutOff)
    lines.push(
      `what was sent last may count as changed in the VM; banger vm workspace prepare ${vm} ends what was cut off`,
    );
  if (total === 0) lines.push('no file was changed on either side');
  const both = files.filter(({ here, there, same }) => here !== null && there !== null && !same);
  const inSubmodule = ({ path }: WorkspaceFileStatus): boolean =>
    status.nested.some((directory) => path.startsWith(`${directory}/`));
  const table = total === 0 ? '' : `\n${formatTable(HEADER, files.map(row))}`;
  const more = total > files.length ? `and ${total - files.length} more\n` : '';
  const way =
    both.length === 0 || status.cutOff
      ? ''
      : both.every(inSubmodule)
        ? `${both.length} changed on both sides, in submodules: commit the VM's there, and fetch them by git\n`
        : `${both.length} changed on both sides: take the VM's with "banger vm workspace export ${vm} --apply", which merges\n`;
  return `${lines.join('\n')}\n${table}${more}${way}`;
}

function row({ path, here, there, same }: WorkspaceFileStatus): string[] {
  return [here ?? '-', there ?? '-', same ? `${path} (the same)` : path];
}
