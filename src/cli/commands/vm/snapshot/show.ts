import { defineCommand, oneArgument } from '../../../command.ts';
import { completeVmSnapshots } from '../../../complete-names.ts';
import { jsonFlag } from '../../../flags.ts';
import { printJson } from '../../../output/json.ts';
import { formatVmSnapshot } from '../../../output/vm-snapshots.ts';
import { withClient } from '../../../with-client.ts';

export const command = defineCommand({
  description: 'Shows what a snapshot is of, what it needs to be used, and whether it can be used now.',
  examples: [{ line: 'banger vm snapshot show before-upgrade', brief: 'one snapshot' }],
  argument: oneArgument('SNAPSHOT', 'Name or id of a snapshot', completeVmSnapshots),
  flags: { json: jsonFlag },
  async run(context, flags, [snapshot = '']) {
    const detail = await withClient(context, (client) => client.call('snapshot.show', { snapshot }));
    if (flags.json) printJson(context.stdout, detail);
    else context.stdout.write(formatVmSnapshot(detail));
  },
});
