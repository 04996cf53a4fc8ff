import { defineCommand } from '../../command.ts';
import { jsonFlag } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { progressLine } from '../../output/progress.ts';
import { formatTable } from '../../output/table.ts';
import { timeAgo } from '../../output/times.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Lists what the daemon is busy with: the operation, the VM or image it works on, and the step it is at.',
  examples: [{ line: 'banger operation list', brief: 'what is going on' }],
  flags: { json: jsonFlag },
  async run(context, flags) {
    const operations = await withClient(context, (client) => client.call('operation.list', {}));
    if (flags.json) {
      printJson(context.stdout, operations);
      return;
    }
    const rows = operations.map((operation) => [
      operation.id,
      operation.method,
      operation.subject ?? '-',
      operation.progress === null ? '-' : progressLine(operation.progress, 0),
      timeAgo(operation.startedAt),
    ]);
    context.stdout.write(formatTable(['ID', 'OPERATION', 'SUBJECT', 'STEP', 'STARTED'], rows));
  },
});
