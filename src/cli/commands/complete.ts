import { proposeCompletions } from '@stricli/core';
import { buildCliApplication, resolveWords } from '../app.ts';
import { FILES_LINE } from '../completion-scripts.ts';
import type { CliContext } from '../cli-context.ts';
import { defineCommand } from '../command.ts';

export const command = defineCommand({
  description: 'Used by the scripts of "banger completion". The last word is the one being completed.',
  examples: [{ line: 'banger __complete -- vm sh', brief: 'prints "show" and what it does' }],
  commandBrief: 'The words after "banger"',
  flags: {},
  async run(context) {
    const lines = await completionLines(context, context.commandArgv ?? []);
    context.stdout.write(lines.map((line) => `${line}\n`).join(''));
  },
});

/** `word TAB explanation` each, or one line that sends the shell to its own file names. */
export async function completionLines(
  context: CliContext,
  words: readonly string[],
): Promise<readonly string[]> {
  const partial = words.at(-1) ?? '';
  const { application, takesArgumentsBehindDashes } = await buildCliApplication(words, false);
  const isBehindDashes = words.slice(0, -1).includes('--');
  // The guest's command line; the host's files are the best guess there is.
  if (isBehindDashes && !takesArgumentsBehindDashes) return [FILES_LINE];
  const proposals = await proposeCompletions(application, words, context);
  const wanted = proposals.filter(
    ({ completion }) => completion !== '--' && (partial.startsWith('-') || !completion.startsWith('-')),
  );
  const mayBePath = isBehindDashes || !partial.startsWith('-');
  if (wanted.length === 0 && mayBePath && (await takesPath(words))) return [FILES_LINE];
  return [
    ...new Map(wanted.map(({ completion, brief }) => [completion, `${completion}\t${brief}`])).values(),
  ];
}

async function takesPath(words: readonly string[]): Promise<boolean> {
  const { leaf } = resolveWords(words);
  if (leaf === undefined) return false;
  const { command: spec } = await leaf.load();
  return spec.argument?.isPath === true;
}
