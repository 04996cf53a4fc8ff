import { defineCommand, manyArguments } from '../../../command.ts';
import { completeVmSnapshots } from '../../../complete-names.ts';
import { jsonFlag } from '../../../flags.ts';
import { printJson } from '../../../output/json.ts';
import { withClient } from '../../../with-client.ts';

export const command = defineCommand({
  description: 'Deletes snapshots for good. VMs that were made of them, or put back to them, go on.',
  examples: [{ line: 'banger vm snapshot delete dev-1 dev-2', brief: 'two of them' }],
  argument: manyArguments('SNAPSHOT', 'Names or ids of snapshots', completeVmSnapshots),
  flags: { json: jsonFlag },
  async run(context, flags, refs) {
    await withClient(context, async (client) => {
      for (const snapshot of refs) {
        const deleted = await client.call('snapshot.delete', { snapshot });
        if (flags.json) printJson(context.stdout, deleted);
        else context.stdout.write(`${deleted.name}: deleted\n`);
      }
    });
  },
});
