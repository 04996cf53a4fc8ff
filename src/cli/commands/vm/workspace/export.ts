import { resolve } from 'node:path';
import type {
  WorkspaceApplied,
  WorkspaceChange,
  WorkspaceExported,
} from '../../../../api/results/workspace.ts';
import { printable } from '../../../../core/channel/close.ts';
import { BangerError } from '../../../../core/errors.ts';
import { counted } from '../../../../core/units.ts';
import type { CliContext } from '../../../cli-context.ts';
import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVms } from '../../../complete-names.ts';
import { type FlagValues, jsonFlag, text, toggle } from '../../../flags.ts';
import { longCall, withProgress } from '../../../long-call.ts';
import { printJson } from '../../../output/json.ts';
import { streamedCall } from '../../../streamed-call.ts';
import { withClient } from '../../../with-client.ts';

const CONFLICTS = 1;
const NEW_FILE_BITS = 0o666;

const flags = {
  output: text('FILE', 'Write the patch to this new file. Default: stdout', { letter: 'o' }),
  force: toggle('Replace FILE; with --branch, give up commits that the branch has and the VM has not', {
    letter: 'f',
  }),
  'base-commit': text(
    'COMMIT',
    'Only what differs from this commit, which the VM must have. Default: the commit the copy was made from',
  ),
  'since-prepare': toggle(
    'Only what was changed in the VM: without the changes that were copied in uncommitted',
  ),
  stat: toggle('List the changed files and write no patch'),
  apply: toggle("Merge the VM's changes onto the files of the host's repository"),
  'conflict-markers': toggle('With --apply: write files with conflicts too, marked as git marks them'),
  'dry-run': toggle('With --apply: only say what would be written'),
  branch: text('NAME', "Fetch the VM's commits as a branch of the host's repository"),
  json: jsonFlag,
};
type Flags = FlagValues<typeof flags>;

export const command = defineCommand({
  description:
    "Brings what was changed in a VM's copy of a repository out. By default as a patch on stdout against the commit the copy was " +
    'made from: it holds commits made in the VM as well as what is not committed there and not ignored. With --apply it is merged ' +
    "onto the host's files: base is what was copied, so changes made on both sides since are kept; conflicts exit 1 and write " +
    'nothing. With --branch the commits themselves come, without what is not committed. The repository in the VM stays as it is, ' +
    "and so do index, HEAD and the other branches of the host's. DIR is a repository of the host; default: the one the copy was made from.",
  examples: [
    { line: 'banger vm workspace export dev --stat', brief: 'what was changed' },
    { line: 'banger vm workspace export dev | git apply', brief: 'take it over, in a clean clone' },
    { line: 'banger vm workspace export dev -o dev.patch', brief: 'to a file' },
    { line: 'banger vm workspace export dev --apply', brief: 'merge it onto the files here' },
    { line: 'banger vm workspace export dev --branch from-dev', brief: 'the commits, as a branch' },
  ],
  argument: {
    ...oneArgument('VM', 'Name or id of a running VM', completeVms),
    second: { placeholder: 'DIR', brief: 'With --apply and --branch: a repository of the host' },
  },
  flags,
  async run(context, given, [ref = '', dir]) {
    checkFlags(given, dir);
    const place = dir === undefined ? {} : { dir: resolve(context.cwd, dir) };
    if (given.apply) return await apply(context, given, { ref, ...place });
    if (given.branch === undefined) return await exportPatch(context, given, ref);
    return await fetchBranch(context, given, { ref, branch: given.branch, ...place });
  },
});

function checkFlags(given: Flags, dir: string | undefined): void {
  const modes = [given.stat, given.apply, given.branch !== undefined, given.output !== undefined];
  if (modes.filter(Boolean).length > 1)
    throw new BangerError('usage', '--output, --stat, --apply and --branch exclude each other');
  const isPatch = !given.apply && given.branch === undefined;
  const fail = (text: string): never => {
    throw new BangerError('usage', text);
  };
  if (isPatch && dir !== undefined) fail('DIR goes with --apply or --branch; a file is named with --output');
  if (!given.apply && (given['dry-run'] || given['conflict-markers']))
    fail('--dry-run and --conflict-markers go with --apply');
  if (!isPatch && (given['base-commit'] !== undefined || given['since-prepare']))
    fail('--base-commit and --since-prepare are for patches');
  if (given['base-commit'] !== undefined && given['since-prepare'])
    fail('--base-commit and --since-prepare exclude each other');
  if (given.json && isPatch && !given.stat && (given.output === undefined || given.output === '-'))
    fail('the patch is on stdout, which leaves no place for JSON: give --output FILE or --stat');
}

async function exportPatch(context: CliContext, given: Flags, ref: string): Promise<void> {
  const base = given['base-commit'];
  const what = { ref, sincePrepare: given['since-prepare'], ...(base !== undefined && { base }) };
  if (given.stat) {
    const found = await withClient(context, (client) => longCall(context, client, 'workspace.export', what));
    if (given.json) printJson(context.stdout, found);
    else {
      context.stdout.write(changeLines(found.changes));
      tellExported(context, found, given);
    }
    return;
  }
  const { output } = given;
  if (output === undefined || output === '-') {
    if (context.stdout.isTTY) {
      throw new BangerError('usage', 'the patch goes to stdout, which is a terminal', {
        hint: '--output FILE writes it to a file, --stat lists what is in it; or use a pipe',
      });
    }
    const exported = await withClient(context, (client) =>
      withProgress(context, (work) =>
        streamedCall<'workspace.export'>(
          client,
          work,
          (ticket, signal) => context.ports.copyStream(ticket, signal),
          (stream) => client.call('workspace.export', { ...what, stream }, work),
        ),
      ),
    );
    tellExported(context, exported, given);
    return;
  }
  const exported = await withClient(context, (client) =>
    longCall(context, client, 'workspace.export', {
      ...what,
      output: resolve(context.cwd, output),
      mode: NEW_FILE_BITS & ~context.umask,
      force: given.force,
    }),
  );
  if (given.json) printJson(context.stdout, exported);
  else tellExported(context, exported, given);
}

function tellExported(context: CliContext, exported: WorkspaceExported, given: Flags): void {
  const { vm, files, insertions, deletions, commits, includesShipped, nested, base } = exported;
  const say = (line: string): void => context.stderr.write(`${line}\n`);
  if (files === 0) say(`${vm}: nothing differs from ${base.slice(0, 12)}`);
  else {
    const made = commits === 0 ? '' : `, ${counted(commits, 'commit')} of the VM among it`;
    say(`${vm}: ${counted(files, 'file')}, +${insertions} -${deletions}${made}`);
  }
  if (includesShipped && given['base-commit'] === undefined) {
    say(
      'it holds changes that the host had not committed when it was copied; --since-prepare leaves them out',
    );
  }
  tellNested(context, nested);
}

async function apply(
  context: CliContext,
  given: Flags,
  where: { readonly ref: string; readonly dir?: string },
): Promise<number> {
  const applied = await withClient(context, (client) =>
    longCall(context, client, 'workspace.apply', {
      ...where,
      umask: context.umask,
      conflictMarkers: given['conflict-markers'],
      dryRun: given['dry-run'],
    }),
  );
  if (given.json) printJson(context.stdout, applied);
  else tellApplied(context, applied, given);
  return applied.conflicts.length > 0 ? CONFLICTS : 0;
}

function tellApplied(context: CliContext, result: WorkspaceApplied, given: Flags): void {
  const { vm, dir, applied, changes, files, conflicts, nested } = result;
  const say = (line: string): void => context.stderr.write(`${line}\n`);
  const isRefused = conflicts.length > 0 && !given['conflict-markers'];
  const verb = given['dry-run'] ? 'would be' : 'was';
  if (!isRefused) context.stdout.write(changeLines(changes));
  if (files === 0 && conflicts.length === 0) say(`${vm}: ${dir} has all of its changes`);
  else if (!isRefused)
    say(`${vm}: ${counted(files, 'file')} ${given['dry-run'] ? 'would be ' : ''}written in ${dir}`);
  tellNested(context, nested);
  if (conflicts.length === 0) return;
  say(`${vm}: ${counted(conflicts.length, 'conflict')}${isRefused ? `; nothing ${verb} written` : ''}`);
  for (const { path, why } of conflicts) say(`  ${printable(path)} (${printable(why)})`);
  if (!isRefused) {
    const have = applied ? 'have' : 'would have';
    say(`the files ${have} markers: <<<<<<< host … ======= … >>>>>>> guest`);
  } else
    say(
      '--conflict-markers writes them with markers; --branch NAME fetches the commits, to be merged by git',
    );
}

async function fetchBranch(
  context: CliContext,
  given: Flags,
  where: { readonly ref: string; readonly branch: string; readonly dir?: string },
): Promise<void> {
  const fetched = await withClient(context, (client) =>
    longCall(context, client, 'workspace.fetch', {
      ...where,
      force: given.force,
      umask: context.umask,
    }),
  );
  if (given.json) {
    printJson(context.stdout, fetched);
    return;
  }
  const { vm, dir, branch, guestBranch, commit, oldCommit, commits, uncommitted } = fetched;
  const was =
    oldCommit === null ? 'new' : oldCommit === commit ? 'as it was' : `was ${oldCommit.slice(0, 12)}`;
  const from = guestBranch === null ? 'HEAD' : `branch ${guestBranch}`;
  context.stdout.write(
    `${branch} in ${dir} is ${commit.slice(0, 12)} (${was}): the VM's ${from}, ${counted(commits, 'commit')}\n`,
  );
  if (uncommitted === 0) return;
  context.stderr.write(
    `${vm}: ${counted(uncommitted, 'file')} not committed there and so not in it; commit in the VM, or use --apply\n`,
  );
}

function tellNested(context: CliContext, nested: readonly string[]): void {
  for (const path of nested)
    context.stderr.write(`${printable(path)} is a repository of its own in the VM, and is left out\n`);
}

const MARKS: Readonly<Record<WorkspaceChange['kind'], string>> = {
  added: 'A',
  modified: 'M',
  deleted: 'D',
  type_changed: 'T',
};

function changeLines(changes: readonly WorkspaceChange[]): string {
  return changes
    .map(({ path, kind, insertions, deletions }) => {
      const lines = insertions === null ? 'binary' : `+${insertions} -${deletions ?? 0}`;
      return `${MARKS[kind]} ${printable(path)} (${lines})\n`;
    })
    .join('');
}
