import type { StateRebuilt } from '../../../api/results/state.ts';
import type { CliContext } from '../../cli-context.ts';
import { defineCommand } from '../../command.ts';
import { jsonFlag, toggle } from '../../flags.ts';
import { longCall } from '../../long-call.ts';
import { printJson } from '../../output/json.ts';
import { formatRestored } from '../../output/restored.ts';
import { formatTable, printable } from '../../output/table.ts';
import { withOfflineClient } from '../../with-state-client.ts';

export const command = defineCommand({
  description:
    'Every VM and image directory carries what its row said. This finds the ones the database has lost, and adds their rows: ' +
    'after a damaged or deleted database, or a restore of an old snapshot. Rows that are there are not changed, no directory ' +
    'is, and the database that was there is kept. The daemon must not run: "banger daemon stop" leaves VMs running.',
  examples: [
    { line: 'banger state rebuild --dry-run', brief: 'what would be brought back' },
    { line: 'banger state rebuild', brief: 'bring it back' },
  ],
  flags: { 'dry-run': toggle('Only say what would be added', { letter: 'n' }), json: jsonFlag },
  async run(context, flags) {
    const rebuilt = await withOfflineClient(context, (client) =>
      longCall(context, client, 'state.rebuild', { dryRun: flags['dry-run'] }),
    );
    if (flags.json) printJson(context.stdout, rebuilt);
    else print(context, rebuilt, flags['dry-run']);
  },
});

function print(context: CliContext, { added, skipped, restored }: StateRebuilt, dryRun: boolean): void {
  if (added.length === 0) {
    context.stdout.write('nothing is lost: every directory that can be used has its row\n');
  } else {
    const rows = added.map(({ kind, name, id, note }) => [kind, name, id, note ?? '']);
    context.stdout.write(formatTable([dryRun ? 'WOULD ADD' : 'ADDED', 'NAME', 'ID', 'NOTE'], rows));
  }
  for (const { path, why } of skipped) context.stderr.write(`skipped ${printable(`${path}: ${why}`)}\n`);
  if (restored !== null) context.stdout.write(formatRestored(restored));
}
