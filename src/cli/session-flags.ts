/** The flags that `vm run` and `vm exec` share, and the request of a program's session they make. */

import type { ParamsOf } from '../api/contract.ts';
import { BangerError } from '../core/errors.ts';
import type { CliContext } from './cli-context.ts';
import { type FlagValues, text, texts, toggle } from './flags.ts';

export const sessionFlags = {
  env: texts('NAME[=VALUE]', "Set a variable for the command; without a value, this shell's. Repeatable", {
    letter: 'e',
  }),
  user: text('USER', 'Run as this user of the guest: NAME, UID, NAME:GROUP or UID:GID. Default: root', {
    letter: 'u',
  }),
  tty: toggle('Give the command a terminal even when this is none', { letter: 't' }),
  'no-tty': toggle('Give it none even when this is one: stdout and stderr stay apart', { letter: 'T' }),
};

type SessionValues = FlagValues<typeof sessionFlags>;

/** Wrong flags are found before anything is created. */
export function sessionParams(
  context: CliContext,
  flags: SessionValues,
  cwd: string | undefined,
): Omit<ParamsOf<'vm.exec'>, 'ref'> {
  if (flags.tty && flags['no-tty']) throw new BangerError('usage', '--tty and --no-tty exclude each other');
  const tty = flags.tty || (!flags['no-tty'] && context.stdinIsTTY && context.stdout.isTTY);
  const env = environmentOf(flags.env, context.env);
  const term = context.env['TERM'];
  return {
    argv: [...(context.commandArgv ?? [])],
    env: tty && term !== undefined && env['TERM'] === undefined ? { ...env, TERM: term } : env,
    tty,
    ...(cwd !== undefined && { cwd }),
    ...(flags.user !== undefined && { user: flags.user }),
  };
}

/** As docker does it: a bare NAME takes the host's value, and is left out when the host has none. */
function environmentOf(
  entries: readonly string[],
  host: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const env = new Map<string, string>();
  for (const entry of entries) {
    const at = entry.indexOf('=');
    const name = at === -1 ? entry : entry.slice(0, at);
    if (name === '') throw new BangerError('usage', `--env: "${entry}" has no name before the "="`);
    const value = at === -1 ? host[name] : entry.slice(at + 1);
    if (value !== undefined) env.set(name, value);
  }
  return Object.fromEntries(env);
}
