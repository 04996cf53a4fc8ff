import { counted } from '../../../core/units.ts';
import { defineCommand } from '../../command.ts';
import { count, jsonFlag, toggle } from '../../flags.ts';
import { printJson } from '../../output/json.ts';
import { formatSnapshotTable } from '../../output/snapshots.ts';
import { withStateClient } from '../../with-state-client.ts';

const DEFAULT_KEEP = 10;

export const command = defineCommand({
  description:
    `Keeps the newest ones and those with a ref, and deletes the others. Default: the newest ${DEFAULT_KEEP}. ` +
    'Copies made with --output are not touched. There is no way back.',
  examples: [
    { line: 'banger state prune --dry-run', brief: 'what would be deleted' },
    { line: 'banger state prune --keep 3', brief: 'keep three' },
  ],
  flags: {
    keep: count('N', `Keep the newest N. Default: ${DEFAULT_KEEP}`, 1),
    'dry-run': toggle('Only say what would be deleted', { letter: 'n' }),
    json: jsonFlag,
  },
  async run(context, flags) {
    const dryRun = flags['dry-run'];
    const deleted = await withStateClient(context, (client) =>
      client.call('state.prune', { keep: flags.keep ?? DEFAULT_KEEP, dryRun }),
    );
    if (flags.json) {
      printJson(context.stdout, deleted);
      return;
    }
    if (deleted.length === 0) {
      context.stdout.write('nothing to prune\n');
      return;
    }
    context.stdout.write(formatSnapshotTable(deleted));
    context.stdout.write(
      `${counted(deleted.length, 'snapshot')} ${dryRun ? 'would be deleted' : 'deleted'}\n`,
    );
  },
});
