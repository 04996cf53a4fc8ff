import { resolve } from 'node:path';
import type { SavedPatch, WorkspacePrepared } from '../../../../api/results/workspace.ts';
import { counted, formatDuration } from '../../../../core/units.ts';
import type { CliContext } from '../../../cli-context.ts';
import { defineCommand, oneArgument } from '../../../command.ts';
import { tellWanted } from '../../../bootstrap.ts';
import { completeVms } from '../../../complete-names.ts';
import { placementFlags, placementParams, workspaceFlags } from '../../../creation-flags.ts';
import { type FlagValues, jsonFlag, text, toggle } from '../../../flags.ts';
import { withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { styleFor } from '../../../output/style.ts';
import { withClient } from '../../../with-client.ts';

const NEW_FILE_BITS = 0o666;

const flags = {
  ...workspaceFlags,
  ...placementFlags,
  force: toggle('Overwrite what was changed in the VM, where it was changed here, too'),
  'save-patch': text(
    'FILE',
    'First write what was changed in the VM to this new file, as a patch; then overwrite it',
  ),
  'dry-run': toggle('List the files that would be copied or deleted; change nothing'),
  json: jsonFlag,
} as const;

export const command = defineCommand({
  description:
    'Without a copy in the VM: copies the git repo around PATH there, as "vm run PATH" does. With one: brings it up to date, and sends ' +
    'only what differs from what was sent before. Changes made in the VM stay; where a file was changed on both sides nothing is ' +
    'written, and those files are named. Options given the last time count again.',
  examples: [
    { line: 'banger vm workspace prepare dev .', brief: 'a copy of this repo in a VM that runs' },
    { line: 'banger vm workspace prepare dev . --mode full_copy', brief: 'with all history, and submodules' },
    { line: 'banger vm workspace prepare dev', brief: 'what has changed here since' },
    { line: 'banger vm workspace prepare dev --dry-run', brief: 'which files that is' },
    {
      line: 'banger vm workspace prepare dev --save-patch vm.patch',
      brief: 'keep what the VM changed, then overwrite it',
    },
    { line: 'banger vm exec dev --auto-prepare -- make test', brief: 'both in one' },
  ],
  argument: {
    ...oneArgument('VM', 'Name or id of a running VM', completeVms),
    second: { placeholder: 'PATH', brief: 'A directory of the git repo. Default: the one that was copied' },
  },
  flags,
  async run(context, values, [ref = '', path]) {
    const params = prepareParams(context, ref, path, values);
    const done = await withClient(context, (client) =>
      withProgress(context, (work) => client.call('workspace.prepare', params, work)),
    );
    if (values.json) return printJson(context.stdout, done);
    if (values['dry-run']) {
      for (const changed of done.paths) context.stdout.write(`${changed}\n`);
    }
    if (!values['dry-run']) tellWanted(context, done.vm, done.tools);
    const style = styleFor(context.stderr, context.env);
    if (done.patch !== null) context.stderr.write(`${savedLine(done, done.patch)}\n`);
    context.stderr.write(`${style.dim(summaryOf(done, values['dry-run']))}\n`);
  },
});

function prepareParams(
  context: Pick<CliContext, 'cwd' | 'umask'>,
  ref: string,
  path: string | undefined,
  values: FlagValues<typeof flags>,
) {
  return {
    ref,
    ...(path !== undefined && { path: resolve(context.cwd, path) }),
    ...(values.branch !== undefined && { branch: values.branch }),
    ...(values.from !== undefined && { from: values.from }),
    ...(values['include-untracked'] && { includeUntracked: true }),
    ...placementParams(values),
    ...(values.force && { force: true }),
    ...(values['dry-run'] && { dryRun: true }),
    ...(values['save-patch'] !== undefined && {
      savePatch: resolve(context.cwd, values['save-patch']),
      patchMode: NEW_FILE_BITS & ~context.umask,
    }),
  };
}

function savedLine({ vm }: WorkspacePrepared, { path, files, commits }: SavedPatch): string {
  const made = commits === 0 ? '' : ` and ${counted(commits, 'commit')}`;
  return `${vm}: what was changed there (${counted(files, 'file')}${made}) is in ${path}`;
}

function summaryOf(done: WorkspacePrepared, isDry: boolean): string {
  const where = `${done.vm}:${done.guestPath}`;
  if (done.outcome === 'unchanged') return `${where} is up to date`;
  const deleted = done.deleted === 0 ? '' : `, ${done.deleted} deleted`;
  const moved =
    done.previousHead === null || done.previousHead === done.headCommit
      ? `at ${done.headCommit.slice(0, 12)}`
      : `${done.previousHead.slice(0, 12)} → ${done.headCommit.slice(0, 12)}`;
  const left = (done.untrackedLeft ?? 0) > 0 ? `; ${done.untrackedLeft} untracked left out` : '';
  const what = `${counted(done.files, 'file')}${deleted}, ${moved}${left}`;
  return isDry ? `${where} would get ${what}` : `${where}: ${what} (${formatDuration(done.elapsedMs)})`;
}
