import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { withClient } from '../../with-client.ts';
import { formatStatus } from './status.ts';

export const command = defineCommand({
  description:
    'Starts the daemon unless it runs, and shows its status. Other commands do this by themselves.',
  examples: [{ line: 'banger daemon start', brief: 'start it now' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const status = await withClient(context, (client) => client.call('daemon.status', {}));
    if (flags.json) printJson(context.stdout, { running: true, ...status });
    else context.stdout.write(formatStatus(status));
  },
});
