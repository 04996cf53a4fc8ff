/** From a command line to an exit status. Touches nothing but what it is given. */

import { run } from '@stricli/core';
import { buildCliApplication } from './app.ts';
import type { CliContext, CliIo } from './cli-context.ts';
import { failureStatus, reportError } from './output/errors.ts';

const USAGE_STATUS = 2;

/** @param argv without the interpreter and the script */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  const { words, rest } = splitAtDashes(argv);
  const json = words.includes('--json');
  try {
    const inputs = words[0] === 'help' ? [...words.slice(1), '--help'] : words;
    const { application, takesArgumentsBehindDashes } = await buildCliApplication(inputs, json);
    const behindDashes = takesArgumentsBehindDashes && rest !== undefined ? rest : [];
    const context: CliContext = {
      ...io,
      commandArgv: takesArgumentsBehindDashes ? undefined : rest,
      behindDashes,
      process: { stdout: io.stdout, stderr: io.stderr, env: io.env, exitCode: null },
    };
    await run(application, behindDashes.length === 0 ? inputs : [...inputs, '--', ...behindDashes], context);
    return statusOf(context.process.exitCode);
  } catch (error) {
    reportError(io, error, json);
    return failureStatus(error, undefined);
  }
}

/** Nothing after the first `--` is a flag: neither of the guest's command nor of the names of files. */
function splitAtDashes(argv: readonly string[]): {
  readonly words: readonly string[];
  readonly rest: readonly string[] | undefined;
} {
  const at = argv.indexOf('--');
  if (at === -1) return { words: argv, rest: undefined };
  return { words: argv.slice(0, at), rest: argv.slice(at + 1) };
}

/** stricli's own statuses are negative: -5 and -4 for what the user wrote, the others for faults in this program. */
function statusOf(exitCode: number | string | null): number {
  if (typeof exitCode !== 'number') return 1;
  if (exitCode >= 0) return exitCode;
  return exitCode === -5 || exitCode === -4 ? USAGE_STATUS : 1;
}
