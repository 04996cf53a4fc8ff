import { defineCommand, optionalArgument } from '../../../command.ts';
import { completeVms } from '../../../complete-names.ts';
import { jsonFlag } from '../../../flags.ts';
import { printJson } from '../../../output/json.ts';
import { formatVmSnapshotTable } from '../../../output/vm-snapshots.ts';
import { withClient } from '../../../with-client.ts';

export const command = defineCommand({
  description:
    'The oldest first. SIZE is what they occupy on this host; a VM whose name is in brackets is gone, and its snapshots are not.',
  examples: [
    { line: 'banger vm snapshot list', brief: 'of all VMs' },
    { line: 'banger vm snapshot list dev', brief: 'of one' },
  ],
  argument: optionalArgument('VM', 'Only those of this VM', completeVms),
  flags: { json: jsonFlag },
  async run(context, flags, [ref]) {
    const params = ref === undefined ? {} : { ref };
    const list = await withClient(context, (client) => client.call('snapshot.list', params));
    if (flags.json) printJson(context.stdout, list);
    else context.stdout.write(formatVmSnapshotTable(list));
  },
});
