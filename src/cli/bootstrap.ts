/** Tools that a repository asks for: installed after its VM is there, or said in one line. */

import type { VmCreated } from '../api/results/vm.ts';
import { BangerError } from '../core/errors.ts';
import type { ToolingPlan, ToolRequest } from '../core/toolingplan/model.ts';
import type { CliClient, CliContext } from './cli-context.ts';
import { toggle } from './flags.ts';
import { longCall } from './long-call.ts';

/** Names in the one line at most. */
const MAX_NAMED = 4;

export const noBootstrapFlag = toggle(
  'Do not install the tools the repo asks for, nor run commands with them',
);

/**
 * Installs them where they are required, or the VM reaches the network and its image can; else says what is asked for.
 * @throws {BangerError} what `vm.bootstrap` throws, with a hint for who has just made the VM; the VM stays, unless the caller
 *   deletes it (--rm)
 */
export async function bootstrap(
  context: CliContext,
  client: CliClient,
  flags: { readonly 'no-bootstrap': boolean; readonly json: boolean; readonly rm?: boolean },
  { vm, tools }: VmCreated,
): Promise<void> {
  if (flags['no-bootstrap'] || tools === null) return;
  const say = (text: string): void => {
    if (!flags.json) context.stderr.write(`banger: ${text}\n`);
  };
  for (const problem of tools.problems) say(`${problemText(problem)}; not read for tools`);
  // `vm create` of a VM that is not started takes no repository.
  if (!tools.required && tools.tools.length === 0) return;
  const asked = `the repo asks for ${named(tools.tools)}`;
  if (!tools.required && !vm.spec.nat) {
    say(`${asked}; not installed (--nat installs it with mise, where the image has that)`);
    return;
  }
  const { mise } = await longCall(context, client, 'vm.bootstrap', { ref: vm.id }).catch((error: unknown) => {
    throw hinted(error, vm.name, flags.rm === true);
  });
  if (mise === null) return say(`${asked}; not installed: image "${vm.spec.imageName}" has no mise`);
  for (const conflict of tools.conflicts) say(contradiction(conflict));
}

/** What can be done about tools that could not be installed is another thing where the VM is deleted next. */
function hinted(error: unknown, vm: string, isDeleted: boolean): unknown {
  if (!(error instanceof BangerError) || error.hint === undefined) return error;
  const { code, message, operationId } = error;
  const hint = isDeleted
    ? '--no-bootstrap goes without the tools; without --rm the VM stays, to look into it'
    : `${error.hint}; to go on without the tools: banger vm exec ${vm}`;
  return new BangerError(code, message, {
    ...{ hint, cause: error },
    ...(operationId !== undefined && { operationId }),
  });
}

/** What a repository that was copied again asks for anew. */
export function tellWanted(context: Pick<CliContext, 'stderr'>, vm: string, tools: ToolingPlan | null): void {
  if (tools === null) return;
  context.stderr.write(
    `banger: the repo asks for ${named(tools.tools)}; not installed in ${vm}: banger vm bootstrap ${vm}\n`,
  );
}

/** For `--dry-run`: all that was found. */
export function printTools(context: CliContext, tools: ToolingPlan): void {
  const lines = [
    ...tools.tools.map((request) => `asks for ${oneTool(request)}${tools.required ? '' : ' (not required)'}`),
    ...tools.conflicts.map(contradiction),
    ...tools.problems.map(problemText),
  ];
  context.stderr.write(lines.map((line) => `${line}\n`).join(''));
}

function problemText({ file, line, what }: ToolingPlan['problems'][number]): string {
  return `${file}:${line}: ${what}`;
}

function named(requests: readonly ToolRequest[]): string {
  if (requests.length === 0) return 'tools';
  const more = requests.length - MAX_NAMED;
  const names = requests.slice(0, MAX_NAMED).map(oneTool).join(', ');
  return more > 0 ? `${names} and ${more} more` : names;
}

function oneTool({ tool, version, file, line }: ToolRequest): string {
  return `${tool} ${version} (${file}:${line})`;
}

function contradiction([first, ...others]: readonly ToolRequest[]): string {
  const rest = others.map(({ asked, file, line }) => `${asked} (${file}:${line})`).join(', ');
  return first === undefined ? '' : `${oneTool(first)} counts, not ${rest}`;
}
