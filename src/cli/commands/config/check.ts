import { resolve } from 'node:path';
import type { ConfigChecked, ConfigProblem } from '../../../core/model/config.ts';
import { defineCommand, optionalPath } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { printable } from '../../output/table.ts';
import { withOfflineClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Prints every mistake with file, line and column, and what is allowed there. Exits 1 when there is one. ' +
    'Without PATH also what the environment says is checked.',
  examples: [
    { line: 'banger config check', brief: 'the file that counts' },
    { line: 'banger config check new.toml', brief: 'another one, before it is put there' },
  ],
  argument: optionalPath('A file to check instead of the one that counts'),
  flags: { json: jsonFlag },
  async run(context, flags, [path]) {
    const params = path === undefined ? {} : { path: resolve(context.cwd, path) };
    const checked = await withOfflineClient(context, (client) => client.call('config.check', params));
    if (flags.json) printJson(context.stdout, checked);
    else if (checked.problems.length > 0) context.stdout.write(formatProblems(checked));
    else context.stdout.write(`${checked.file}: ${checked.exists ? 'ok' : 'not there: defaults'}\n`);
    return checked.problems.length === 0 ? 0 : 1;
  },
});

function formatProblems({ problems, unlisted }: ConfigChecked): string {
  return `${problems.map(formatProblem).join('')}${unlisted === 0 ? '' : `and ${unlisted} more\n`}`;
}

function formatProblem({ where, line, column, message, hint }: ConfigProblem): string {
  const place = line === null ? '' : `${where}:${line}:${column}: `;
  return `${printable(`${place}${message}`)}\n${hint === null ? '' : `  ${printable(hint)}\n`}`;
}
