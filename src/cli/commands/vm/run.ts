import type { VmCreated } from '../../../api/results/vm.ts';
import type { WorkspacePlan } from '../../../api/results/workspace.ts';
import { BangerError } from '../../../core/errors.ts';
import { counted, formatDuration, formatSize } from '../../../core/units.ts';
import type { CliClient, CliContext } from '../../cli-context.ts';
import { defineCommand, optionalPath } from '../../command.ts';
import {
  creationFlags,
  creationParams,
  placementFlags,
  workspaceFlags,
  workspaceParams,
} from '../../creation-flags.ts';
import { type FlagValues, toggle } from '../../flags.ts';
import { bootstrap, noBootstrapFlag, printTools } from '../../bootstrap.ts';
import { withProgress } from '../../long-call.ts';
import { reportError } from '../../output/errors.ts';
import { printJson } from '../../output/json.ts';
import { styleFor } from '../../output/style.ts';
import { formatPublished, formatSpec } from '../../output/vm-table.ts';
import { sessionFlags, sessionParams } from '../../session-flags.ts';
import { withClient } from '../../with-client.ts';

const BANGER_FAILED = 125;

const flags = {
  ...creationFlags,
  ...workspaceFlags,
  ...placementFlags,
  'dry-run': toggle('List the files that would be copied; create nothing'),
  rm: toggle('Delete the VM when the command or shell ends, or when it could not be run'),
  detach: toggle('Leave the VM running and print its name, without a shell', { letter: 'd' }),
  'no-bootstrap': noBootstrapFlag,
  ...sessionFlags,
  json: toggle('Print the VM (with -d) or the files (with --dry-run) as JSON, and errors as JSON on stderr'),
} as const;

type Flags = FlagValues<typeof flags>;

export const command = defineCommand({
  description:
    'Without COMMAND: a login shell as root. With PATH: that git repo (its tracked files as they are in the working tree, and ' +
    'enough of .git for "git status" and "git log -1") is copied to /root/repo, where the command or shell starts.\n' +
    'Tools that the repo asks for are installed with mise when the VM has --nat and its image has mise; a repo with .mise.toml, ' +
    'mise.toml or .tool-versions is refused without --nat, unless --no-bootstrap is given.\n' +
    'The VM stays afterwards unless --rm is given. Ctrl-C while it is being created undoes everything. ' +
    'Exits with the status of the command; 125 when banger itself failed before or around it.\n' +
    'The first use of an image builds it, which takes minutes; later runs take seconds.',
  examples: [
    { line: 'banger vm run', brief: 'a root shell in a fresh VM' },
    { line: 'banger vm run .', brief: 'with a copy of this repo' },
    { line: 'banger vm run --rm . -- make test', brief: 'one command, its status, nothing left' },
    { line: 'banger vm run . --dry-run', brief: 'which files would be copied, which tools are asked for' },
    { line: 'banger vm run . --mode full_copy', brief: 'with all of its history, and its submodules' },
    { line: 'banger vm run . --branch try-1 --nat --memory 4G', brief: 'a new branch, network, 4 GiB' },
    { line: 'banger vm run . -p 8080:80 -p 0:5432', brief: 'ports of the VM on this host, one of them any' },
    { line: 'banger vm run -d --name dev', brief: 'in the background; then: banger vm exec dev' },
    { line: 'tar c src | banger vm run --rm -- tar t', brief: 'stdin goes to the command' },
  ],
  argument: optionalPath('A directory of the git repo to copy into the VM'),
  commandBrief: 'The program to run and its arguments. Default: a login shell',
  flags,
  ownFailureStatus: (context) => (context.commandArgv === undefined ? undefined : BANGER_FAILED),
  run,
});

async function run(context: CliContext, flags: Flags, args: readonly string[]): Promise<number> {
  refuseContradictions(context, flags, args[0]);
  const workspace = workspaceParams(context.cwd, args[0], flags);
  const session = sessionParams(context, flags, undefined);
  if (flags['dry-run'] && workspace !== undefined) {
    const plan = await withClient(context, (client) => client.call('workspace.plan', workspace));
    printPlan(context, plan, flags.json);
    return 0;
  }
  return await withClient(context, async (client) => {
    const created = await create(context, client, flags, workspace);
    if (flags.detach) {
      await bootstrap(context, client, flags, created);
      printDetached(context, created, flags.json);
      return 0;
    }
    const cwd = created.workspace?.guestPath;
    return await useVm(context, client, flags, created, async () => {
      await bootstrap(context, client, flags, created);
      return await context.ports.session(
        client,
        { ...session, ref: created.vm.id, ...(cwd !== undefined && { cwd }) },
        (error) => reportError(context, error, flags.json),
      );
    });
  });
}

function refuseContradictions(context: CliContext, flags: Flags, path: string | undefined): void {
  if (flags.detach && flags.rm) {
    throw new BangerError(
      'usage',
      '--detach and --rm exclude each other: a detached VM has no end to be deleted at',
      {
        hint: 'leave one out; later: banger vm delete NAME',
      },
    );
  }
  if (flags.detach && context.commandArgv !== undefined) {
    throw new BangerError('usage', '--detach takes no command: nobody would see its output', {
      hint: 'banger vm run -d --name dev, then: banger vm exec dev -- COMMAND',
    });
  }
  if (flags['dry-run'] && path === undefined) {
    throw new BangerError('usage', '--dry-run needs a path: the git repo that would be copied', {
      hint: 'banger vm run . --dry-run',
    });
  }
  if (flags.json && !flags.detach && !flags['dry-run'] && context.commandArgv === undefined) {
    throw new BangerError('usage', '--json needs --detach, --dry-run or a command: a shell has no JSON');
  }
}

async function create(
  context: CliContext,
  client: CliClient,
  flags: Flags,
  workspace: ReturnType<typeof workspaceParams>,
): Promise<VmCreated> {
  const params = {
    ...creationParams(flags),
    ...(flags.rm && { ephemeral: true }),
    ...(workspace !== undefined && { workspace, bootstrap: !flags['no-bootstrap'] }),
  };
  const created = await withProgress(context, ({ signal, onProgress }) =>
    client.call('vm.create', params, { signal, onProgress }),
  );
  if (!flags.json) announce(context, created);
  return created;
}

/** On a terminal what was made and how long it took; elsewhere only what must not be missed. */
function announce(context: CliContext, { vm, workspace, elapsedMs }: VmCreated): void {
  if (context.stderr.isTTY) {
    context.stderr.write(`spec: ${formatSpec(vm.spec)}\n${formatPublished(vm)}`);
    context.stderr.write(`${vm.name}: ready in ${formatDuration(elapsedMs)}\n`);
  }
  const left = workspace?.untrackedLeft ?? 0;
  if (left > 0) {
    const files = counted(left, 'untracked file was', 'untracked files were');
    context.stderr.write(`banger: ${files} not copied (--include-untracked copies them)\n`);
  }
}

/** Runs the session, then deletes the VM (--rm) or says that it stays. The program's status wins over later failures. */
async function useVm(
  context: CliContext,
  client: CliClient,
  flags: Flags,
  { vm }: VmCreated,
  session: () => Promise<number>,
): Promise<number> {
  let status: number;
  try {
    status = await session();
  } catch (error) {
    if (flags.rm) await deleteAfter(context, client, vm.id, flags.json);
    else await remind(context, client, vm.id);
    throw error;
  }
  if (flags.rm) {
    const deleted = await deleteAfter(context, client, vm.id, flags.json);
    return deleted || status !== 0 ? status : BANGER_FAILED;
  }
  if (!flags.json && (context.commandArgv === undefined || context.stderr.isTTY)) {
    await remind(context, client, vm.id);
  }
  return status;
}

async function deleteAfter(
  context: CliContext,
  client: CliClient,
  ref: string,
  json: boolean,
): Promise<boolean> {
  try {
    await withProgress(
      context,
      ({ onProgress }) => client.call('vm.delete', { ref }, { onProgress }),
      'finish',
    );
    return true;
  } catch (error) {
    reportError(context, error, json);
    return false;
  }
}

/** Asked, not assumed: the shell may have ended with `poweroff`. */
async function remind(context: CliContext, client: CliClient, ref: string): Promise<void> {
  const vm = await client.call('vm.show', { ref }).catch(() => undefined);
  if (vm?.state === 'running') sayItStays(context, vm.name);
}

function sayItStays(context: CliContext, name: string): void {
  const style = styleFor(context.stderr, context.env);
  context.stderr.write(
    style.dim(
      `VM "${name}" is still running. banger vm exec ${name} returns to it, banger vm delete ${name} removes it.`,
    ) + '\n',
  );
}

function printDetached(context: CliContext, created: VmCreated, json: boolean): void {
  if (json) printJson(context.stdout, created);
  else context.stdout.write(`${created.vm.name}\n`);
}

function printPlan(context: CliContext, plan: WorkspacePlan, json: boolean): void {
  if (json) {
    printJson(context.stdout, plan);
    return;
  }
  context.stdout.write(plan.paths.map((path) => `${path}\n`).join(''));
  const untracked = plan.untrackedLeft > 0 ? `; ${plan.untrackedLeft} untracked left out` : '';
  context.stderr.write(
    `${counted(plan.files, 'file')}, ${formatSize(plan.bytes)}, from ${plan.sourcePath} at ${plan.headCommit.slice(0, 12)}` +
      ` to ${plan.guestPath} (mode ${plan.mode})${untracked}\n`,
  );
  printTools(context, plan.tools);
}
