import { resolve } from 'node:path';
import type { WorkspacePrepared } from '../../../../api/results/workspace.ts';
import { formatDuration } from '../../../../core/units.ts';
import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVms } from '../../../complete-names.ts';
import { placementFlags, placementParams, workspaceFlags } from '../../../creation-flags.ts';
import { type FlagValues, jsonFlag, toggle } from '../../../flags.ts';
import { withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { styleFor } from '../../../output/style.ts';
import { withClient } from '../../../with-client.ts';

const flags = {
  ...workspaceFlags,
  ...placementFlags,
  force: toggle('Overwrite what was changed in the VM, where it was changed here, too'),
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
    { line: 'banger vm exec dev --auto-prepare -- make test', brief: 'both in one' },
  ],
  argument: {
    ...oneArgument('VM', 'Name or id of a running VM', completeVms),
    second: { placeholder: 'PATH', brief: 'A directory of the git repo. Default: the one that was copied' },
  },
  flags,
  async run(context, values, [ref = '', path]) {
    const params = prepareParams(context.cwd, ref, path, values);
    const done = await withClient(context, (client) =>
      withProgress(context, (work) => client.call('workspace.prepare', params, work)),
    );
    if (values.json) return printJson(context.stdout, done);
    if (values['dry-run']) {
      for (const changed of done.paths) context.stdout.write(`${changed}\n`);
    }
    const style = styleFor(context.stderr, context.env);
    context.stderr.write(`${style.dim(summaryOf(done, values['dry-run']))}\n`);
  },
});

function prepareParams(cwd: string, ref: string, path: string | undefined, values: FlagValues<typeof flags>) {
  return {
    ref,
    ...(path !== undefined && { path: resolve(cwd, path) }),
    ...(values.branch !== undefined && { branch: values.branch }),
    ...(values.from !== undefined && { from: values.from }),
    ...(values['include-untracked'] && { includeUntracked: true }),
    ...placementParams(values),
    ...(values.force && { force: true }),
    ...(values['dry-run'] && { dryRun: true }),
  };
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
  const what = `${done.files} ${done.files === 1 ? 'file' : 'files'}${deleted}, ${moved}${left}`;
  return isDry ? `${where} would get ${what}` : `${where}: ${what} (${formatDuration(done.elapsedMs)})`;
}
