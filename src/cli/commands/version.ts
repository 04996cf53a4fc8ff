import { BUILD } from '../../core/buildinfo.ts';
import { defineCommand } from '../command.ts';
import { jsonFlag } from '../flags.ts';
import { printJson } from '../output/json.ts';

export const command = defineCommand({
  description:
    'Three lines: version, commit, built_at. Sources that run unbuilt do not know their commit and time.',
  examples: [
    { line: 'banger version', brief: 'three lines' },
    { line: 'banger --version', brief: 'one line' },
  ],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const { version, commit, builtAt } = BUILD;
    if (flags.json) printJson(context.stdout, { version, commit, builtAt });
    else context.stdout.write(`version: ${version}\ncommit: ${commit}\nbuilt_at: ${builtAt}\n`);
  },
});
