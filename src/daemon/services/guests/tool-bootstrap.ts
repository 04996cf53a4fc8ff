/** Tools that a repository asks for, installed in its VM with the mise that its image has. */

import { isDeepStrictEqual } from 'node:util';
import type { ToolsInstalled } from '../../../api/results/vm.ts';
import { printable } from '../../../core/channel/close.ts';
import { BangerError } from '../../../core/errors.ts';
import type { VmRecord } from '../../../core/model/vm.ts';
import type { VmWorkspace } from '../../../core/model/workspace.ts';
import type { ToolingPlan } from '../../../core/toolingplan/model.ts';
import { describeTools } from '../../../core/toolingplan/plan.ts';
import type { AgentClient } from '../../../guest/agent-client.ts';
import { run } from '../../../guest/run.ts';
import { now } from '../../../host/clock.ts';
import type { Store } from '../../../store/store.ts';
import type { OperationHandle } from '../../operations.ts';
import type { VmLifecycle } from '../vms/vm-lifecycle.ts';
import type { VmRegistry } from '../vms/vm-registry.ts';
import type { VmSleep } from '../vms/vm-sleep.ts';

/** In the guest. What mise says goes there. */
export const BOOTSTRAP_LOG = '/var/log/banger-bootstrap.log';

const AGENT_TIMEOUT_MS = 10_000;
const LOOK_TIMEOUT_MS = 30_000;
/** Some tools are compiled. */
const INSTALL_TIMEOUT_MS = 60 * 60_000;
const MAX_OUTPUT_BYTES = 64 * 1024;
const LAST_LINES = 10;
const MAX_LINE_CHARACTERS = 200;

/** Where its own installer puts it is not in the PATH of a program that no shell started. */
const FIND_MISE =
  'command -v mise || { test -x "$HOME/.local/bin/mise" && printf %s "$HOME/.local/bin/mise"; }';
/** A shell for its redirection alone: what is run are its arguments, as they are. */
const LOGGED = 'log=$1; shift; printf "+ %s\\n" "$*" >>"$log"; exec "$@" >>"$log" 2>&1';
const MISE_ENV = { MISE_YES: '1', NO_COLOR: '1' };

export interface ToolBootstrapDeps {
  readonly store: Store;
  readonly registry: VmRegistry;
  readonly lifecycle: VmLifecycle;
  readonly sleep: VmSleep;
}

/**
 * To be asked before anything is created.
 * @throws {BangerError} `bad_request`: tools that must be installed cannot be had without a network
 */
export function assertInstallable(plan: ToolingPlan, nat: boolean): void {
  if (!plan.required || nat) return;
  const tools = plan.tools.length === 0 ? '' : `: ${describeTools(plan.tools)}`;
  throw new BangerError(
    'bad_request',
    `the repository asks for tools${tools}; installing them needs the network, which this VM would not reach`,
    {
      hint: 'add --nat to install them with mise, which the image must have, or --no-bootstrap to go without them',
    },
  );
}

export class ToolBootstrap {
  readonly #deps: ToolBootstrapDeps;

  constructor(deps: ToolBootstrapDeps) {
    this.#deps = deps;
  }

  /**
   * Installs what the repository in the VM asks for. From then on commands in it are run with mise. An image without mise
   * is an error only where mise's or asdf's own files ask. Can be repeated.
   * @throws {BangerError} `bad_request` (it asks for nothing), `dependency_missing` (no mise), `guest_failed` (mise
   *   failed; the VM stays as it is), `not_found`, `invalid_state`, `timeout`, `cancelled`, `channel_broken`
   */
  async install(ref: string, operation: OperationHandle): Promise<ToolsInstalled> {
    const { signal } = operation;
    const { vm, live } = await this.#deps.sleep.running(ref, 'exec', signal);
    operation.about(vm.name);
    const { workspace } = vm;
    if (workspace === null || workspace.tools === null) {
      throw new BangerError('bad_request', `no tools are asked for in VM "${vm.name}"`, {
        hint: 'a VM made with "vm run PATH" or "vm create PATH" knows what tools its repository asks for',
      });
    }
    const agent = await live.agent(signal, AGENT_TIMEOUT_MS);
    operation.progress({ step: 'bootstrap', text: 'looking for mise' });
    const mise = await findMise(agent, signal);
    const { required, trust, extra } = workspace.tools;
    if (mise === undefined) {
      if (required) throw noMise(vm);
      return { mise: null, logPath: BOOTSTRAP_LOG };
    }
    const { guestPath } = workspace;
    const steps = [
      ...(trust.length > 0 ? [['trust', ...trust.map((file) => `${guestPath}/${file}`)]] : []),
      ...(required ? [['install']] : []),
      ...(extra.length > 0 ? [['install', ...extra]] : []),
    ];
    for (const args of steps) {
      operation.progress({ step: `mise_${args[0]}`, text: `mise ${args.join(' ')}` });
      await runLogged(agent, [mise, ...args], vm, guestPath, signal);
    }
    await this.#record(vm, workspace, mise);
    return { mise, logPath: BOOTSTRAP_LOG };
  }

  async #record(vm: VmRecord, { tools }: VmWorkspace, mise: string): Promise<void> {
    const { store, registry, lifecycle } = this.#deps;
    // It may have been shipped again meanwhile, and ask for something else.
    const workspace = registry.row(vm.id).workspace;
    if (workspace === null || tools === null || !isDeepStrictEqual(workspace.tools, tools)) return;
    store.setVmWorkspace(vm.id, { ...workspace, tools: { ...tools, mise } }, now());
    await lifecycle.keepRecord(vm);
  }
}

function noMise(vm: VmRecord): BangerError {
  return new BangerError(
    'dependency_missing',
    `the repository in VM "${vm.name}" asks for tools, and image "${vm.spec.imageName}" has no mise to install them with`,
    {
      hint: `install mise in the VM, then: banger vm bootstrap ${vm.name}`,
    },
  );
}

/** A guest without a shell has no mise either. What it answers is hostile, and used in that guest alone. */
async function findMise(agent: Pick<AgentClient, 'exec'>, signal: AbortSignal): Promise<string | undefined> {
  try {
    const argv = ['/bin/sh', '-c', FIND_MISE];
    const options = { signal, timeoutMs: LOOK_TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
    const { stdout } = await run(agent, { argv }, options);
    return /^(\/[\x21-\x7e]{1,255})\n?$/.exec(stdout.toString('latin1'))?.[1];
  } catch (error) {
    if (error instanceof BangerError && error.code === 'guest_failed') return undefined;
    throw error;
  }
}

async function runLogged(
  agent: Pick<AgentClient, 'exec'>,
  command: readonly string[],
  vm: VmRecord,
  cwd: string,
  signal: AbortSignal,
): Promise<void> {
  const argv = ['/bin/sh', '-c', LOGGED, 'sh', BOOTSTRAP_LOG, ...command];
  const options = { signal, timeoutMs: INSTALL_TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
  const { status } = await run(agent, { argv, cwd, env: MISE_ENV }, options);
  if (status === 0) return;
  const last = await run(agent, { argv: ['tail', '-n', String(LAST_LINES), BOOTSTRAP_LOG] }, options).then(
    ({ stdout }) => stdout.toString('utf8'),
    () => '',
  );
  const lines = last
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => `\n  ${printable(line).slice(0, MAX_LINE_CHARACTERS)}`);
  throw new BangerError(
    'guest_failed',
    `the tools of the repository could not be installed: mise ended with status ${status}${lines.join('')}`,
    {
      // In a directory where no mise of an earlier time is in the way.
      hint:
        `its log: banger vm exec -w / ${vm.name} -- cat ${BOOTSTRAP_LOG}; ` +
        `to try again: banger vm bootstrap ${vm.name}`,
    },
  );
}
