import { defineCommand, manyArguments } from '../../command.ts';
import { completeOperations } from '../../complete-names.ts';
import { toggle } from '../../flags.ts';
import { reportError } from '../../output/errors.ts';
import { withClient } from '../../with-client.ts';

export const command = defineCommand({
  description:
    'Asks operations to stop; what they did is undone. Their own commands end with "cancelled" and status 130.',
  examples: [{ line: 'banger operation cancel 3f2a9c01d4e5', brief: 'give one up' }],
  argument: manyArguments('ID', 'Ids, as "operation list" and error messages show them', completeOperations),
  flags: { json: toggle('Print errors as JSON on stderr') },
  run: (context, flags, ids) =>
    withClient(context, async (client) => {
      const results = await Promise.allSettled(
        [...new Set(ids)].map(async (id) => {
          await client.call('operation.cancel', { id });
          return id;
        }),
      );
      let status = 0;
      for (const result of results) {
        if (result.status === 'fulfilled') {
          if (!flags.json) context.stdout.write(`${result.value}: cancelled\n`);
        } else {
          reportError(context, result.reason, flags.json);
          status = 1;
        }
      }
      return status;
    }),
});
