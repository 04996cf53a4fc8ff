import { defineCommand } from '../../command.ts';
import { printJson } from '../../output/json.ts';
import { withOfflineClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'JSON Schema, draft 2020-12. Editors that know TOML complete and check the file with it when its first line is "#:schema ./schema.json".',
  examples: [
    {
      line: 'banger config schema > ~/.config/banger/schema.json',
      brief: 'beside the file; then "#:schema ./schema.json" in its first line',
    },
  ],
  flags: {},
  async run(context) {
    const schema = await withOfflineClient(context, (client) => client.call('config.schema', {}));
    printJson(context.stdout, schema);
  },
});
